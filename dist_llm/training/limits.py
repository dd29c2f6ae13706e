"""Settings that no machine or text is large enough for: told before the first step, which would never end or fit.

First `check_sizes`, of the settings alone; then, when the text is known, `fitted`.
"""

import psutil

from dist_llm.config import Config, ModelConfig
from dist_llm.data.loader import Loader, validation_windows
from dist_llm.data.preparation import Data
from dist_llm.errors import UserError
from dist_llm.inference.generation import prompt_tokens
from dist_llm.model.causal_attention import kept_bytes
from dist_llm.model.llama import count_parameters
from dist_llm.model.micro_batch import micro_batch_size

# What would take all memory before anything else could say so.
MOST_LAYERS = 100_000
SMALLEST_LAYER_BYTES = 12_000  # Python's objects of a layer, measured
MOST_TOKENS = 1 << 26  # in a step

MAX_EPOCHS_A_STEP = 100  # a step that goes through the text more often only repeats itself
LAYER_BYTES = 20_000  # the same, with what the optimizer and the strategy keep of it


def check_sizes(config: Config) -> None:
    """Refuse, before a text is read, what no memory would be large enough for.

    Raises
    ------
    UserError
    """
    model, batch_size = config.model, config.train.batch_size
    if model.n_layers > MOST_LAYERS:
        needed = model.n_layers * SMALLEST_LAYER_BYTES / 1e9
        raise UserError(f"{model.n_layers:,} layers, however small, take {needed:,.0f} GB: choose a smaller [model]")
    if (tokens := batch_size * model.max_seq_len) > MOST_TOKENS:
        raise UserError(
            f"train.batch_size={batch_size} times model.max_seq_len={model.max_seq_len} are {tokens:,} tokens in a "
            f"step, above {MOST_TOKENS:,}: lower one of them"
        )


def check_that_it_fits(config: Config, n_sequences: int, ranks: int, ranks_here: int, there_bytes: int = 0) -> None:
    """Compare what the model and a step need with the text and the memory.

    Parameters
    ----------
    config : Config
        With its vocabulary.
    n_sequences : int
        Of the training text.
    ranks, ranks_here : int
        Ranks in all, and those that share the memory of this host.
    there_bytes : int
        That memory; asked for unless told.

    Raises
    ------
    UserError
        Naming what is too large, and for what.
    """
    model, train = config.model, config.train
    there_gb = (there_bytes or psutil.virtual_memory().total) / 1e9
    place = "this machine has" if ranks_here == 1 else f"the {ranks_here} ranks of this machine have"
    there = f"{place} {there_gb:,.0f} GB"

    n_parameters = count_parameters(model, config.vocab_size)
    # Weights and gradients, two moments, and an average of the weights, of 4 bytes each.
    a_rank = 8 + 8 / (ranks if config.parallel.strategy == "sharded" else 1) + 4 * bool(config.optim.average)
    model_gb = (n_parameters * a_rank + model.n_layers * LAYER_BYTES) / 1e9
    if model_gb * ranks_here > there_gb:
        raise UserError(
            f"a model of {n_parameters:,} parameters needs {model_gb:,.0f} GB on every rank before its first step, "
            f"and {there}: choose a smaller [model]"
        )
    if train.batch_size > MAX_EPOCHS_A_STEP * n_sequences:
        raise UserError(
            f"train.batch_size={train.batch_size}, and the training text has {n_sequences:,} sequences of "
            f"{model.max_seq_len} tokens: a step would go through it {train.batch_size / n_sequences:,.0f} times; "
            f"lower --train.batch_size, or use a longer text"
        )
    shard = -(-train.batch_size // ranks)
    batch_gb = (16 * train.batch_size + 8 * shard * model.max_seq_len) / 1e9
    if (model_gb + batch_gb) * ranks_here > there_gb:
        raise UserError(
            f"train.batch_size={train.batch_size} needs {batch_gb:,.0f} GB on every rank for the tokens of a step "
            f"alone, and {there}: lower --train.batch_size"
        )
    micro = min(shard, micro_batch_size(config))
    micro_gb = micro * sequence_bytes(model) / 1e9
    if (model_gb + batch_gb + micro_gb) * ranks_here > there_gb:
        raise UserError(
            f"{micro} sequences at once need {micro_gb:,.0f} GB on every rank, and {there}: lower "
            "--train.micro_batch_size" + ", or --model.recompute=true" * (not model.recompute)
        )


def sequence_bytes(model: ModelConfig) -> int:
    """Return what the forward pass of a sequence keeps for the backward pass, at the very least."""
    T = model.max_seq_len
    # Of each block: inputs of norms and projections, queries, the output of attention; gate and up of the feed-forward.
    block = 4 * T * (4 * model.dim + 2 * model.ffn_dim)
    if model.precision == "float32":
        block += kept_bytes(model.n_heads, T, 4)
    if model.recompute:
        return block + 4 * model.n_layers * T * model.dim
    return model.n_layers * block


def fitted(config: Config, data: Data, hosts: list[str]) -> Config:
    """Return the configuration with its vocabulary, after checking that text, model and machine fit each other."""
    config = config.with_vocabulary(data.tokenizer.vocab_size)
    validation_windows(data.val, config.model.max_seq_len)
    if config.log.sample_prompt is not None:
        prompt_tokens(data.tokenizer, config.log.sample_prompt)
    check_that_it_fits(config, Loader.of(data.train, config).n_sequences, len(hosts), hosts.count(hosts[0]))
    return config
