"""The configuration: typed dataclasses, each field with its meaning, its default and the values it may take.

What a user sets is checked against them: an unknown key or a value of the wrong type is an error that names the key,
never a silent default.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dist_llm.errors import UserError, did_you_mean
from dist_llm.option import checked_value, option
from dist_llm.parallel.registry import STRATEGIES, STRATEGIES_OF_DTYPE

# What keys were called in older versions, whose runs and files can still be read.
RENAMED = {"parallel.reduction": "parallel.strategy", "parallel.wire": "parallel.reduce_dtype"}


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the Transformer. The defaults with a vocabulary of 512 have 2,312,256 parameters."""

    dim: int = option(192, "width of the residual stream", positive=True)
    n_layers: int = option(5, "number of Transformer blocks", positive=True)
    n_heads: int = option(6, "query heads; dim / n_heads is the size of a head and must be even", positive=True)
    n_kv_heads: int | None = option(
        None, "key and value heads, a divisor of n_heads (grouped-query); none: n_heads", positive=True
    )
    ffn_dim: int = option(512, "hidden width of the SwiGLU feed-forward", positive=True)
    max_seq_len: int = option(256, "tokens in a training sequence, and the longest context", positive=True)
    vocab_size: int | None = option(
        None, "rows of the embedding, at least the tokenizer's vocabulary; none: exactly that", positive=True
    )
    tie_embeddings: bool = option(True, "use the token embedding as the output projection too")
    dropout: float = option(
        0.0, "probability of dropping an element of the embedding and of each block's outputs", below_1=True
    )
    norm_eps: float = option(1e-5, "added to the mean square in RMSNorm")
    rope_theta: float = option(10000.0, "base of the rotary embedding's wavelengths", positive=True)
    rope_scaling_factor: float = option(
        1.0, "Llama 3's scaled rotary embedding: low frequencies are divided by it; 1: none", positive=True
    )
    rope_low_freq_factor: float = option(
        1.0, "scaled: original context / it is the longest wavelength unscaled in part"
    )
    rope_high_freq_factor: float = option(
        4.0, "scaled: original context / it is the longest wavelength unscaled at all"
    )
    rope_original_max_seq_len: int = option(8192, "scaled: the original context", positive=True)
    init_std: float = option(0.06, "standard deviation of the initial weights")
    zero_init: bool = option(False, "begin with zeros in o_proj and down_proj: at first no block adds anything")
    recompute: bool = option(
        False, "keep only each block's input, and compute it again in the backward pass: up to 1.25 times the time"
    )
    precision: str = option(
        "float32",
        "of matrix products in training; what is compiled needs numba (the extra fast), and bfloat16 AVX512-BF16 too",
        ("float32", "float32-compiled", "bfloat16", "auto"),
    )


@dataclass(frozen=True)
class DataConfig:
    """Which text, cut into which tokens."""

    corpus: str = option(
        "python-docs",
        "a named corpus; python-docs needs no download",
        ("python-docs", "tinyshakespeare", "tinystories", "tinystories-small", "wikitext-2", "wikitext-103", "enwik8"),
    )
    path: str | None = option(
        None,
        "your own text instead: a file, a folder, or a pattern such as 'corpus/*.jsonl.gz'. Plain text (UTF-8) is one "
        "document a file, or is divided by lines that hold only <|endoftext|>; .jsonl is a document a record; .gz and "
        ".zst are unpacked. Several, with commas between them, may have weights: a.txt:3,b.jsonl:0.5 takes each text "
        "of a.txt three times, and half of those of b.jsonl",
    )
    completions: bool = option(
        False, "path is JSON Lines, a prompt and a completion in each, and only the loss of the completions counts"
    )
    field: str = option("text", "JSON Lines: the field of a record that holds its text")
    tokenizer: str = option(
        "bpe",
        "byte, char, bpe (a byte-level BPE trained here), or an existing tokenizer.json, or a folder with one",
        ("byte", "char", "bpe"),
        or_path=True,
    )
    vocab_size: int = option(512, "size the BPE vocabulary is trained to", positive=True)
    pattern: str = option(
        "gpt2",
        "how a BPE cuts text into pieces, which no token crosses; llama3: GPT-4's too",
        ("gpt2", "llama3", "gpt4o"),
    )
    val_fraction: float = option(
        0.1, "fraction of the text that is held out for validation", positive=True, below_1=True
    )
    shards: str | None = option(None, "folder of prepared token shards; none: one inside cache_dir, made when missing")
    cache_dir: str = option("~/.cache/dist_llm", "where downloads and prepared shards are kept")


@dataclass(frozen=True)
class OptimConfig:
    """The optimizers and their learning-rate schedule."""

    optimizer: str = option(
        "muon", "muon: the matrices of the blocks by Muon, all else by AdamW; or adamw: all", ("muon", "adamw")
    )
    lr: float = option(2e-3, "peak learning rate", positive=True)
    min_lr: float = option(1e-4, "learning rate at the end of the decay")
    schedule: str = option("cosine", "what follows the linear warm-up", ("cosine", "wsd", "constant"))
    warmup_steps: int = option(30, "steps of linear warm-up from 0")
    decay_fraction: float = option(
        0.2, "wsd: the fraction of max_steps, at the end, over which lr falls to min_lr", positive=True, at_most_1=True
    )
    beta1: float = option(0.9, "AdamW: decay of the first moment", below_1=True)
    beta2: float = option(0.95, "AdamW: decay of the second moment", below_1=True)
    eps: float = option(1e-8, "AdamW: added to the root of the second moment", positive=True)
    weight_decay: float = option(0.1, "AdamW: decoupled decay, on matrices only")
    muon_lr_factor: float = option(7.5, "Muon: its learning rate, as a multiple of lr", positive=True)
    muon_momentum: float = option(0.95, "Muon: decay of the momentum", below_1=True)
    muon_beta2: float = option(
        0.95, "Muon: decay of the mean squares that make rows equal; 1: without them", positive=True, at_most_1=True
    )
    muon_weight_decay: float = option(0.1, "Muon: decoupled decay")
    average: float = option(
        0.0,
        "decay of a moving average of the weights, which is then what is evaluated, saved and used; 0: none",
        below_1=True,
    )
    grad_clip: float = option(1.0, "largest global gradient norm; 0: no clipping")


@dataclass(frozen=True)
class ParallelConfig:
    """Ranks and threads."""

    threads: int | None = option(
        None, "threads per rank, BLAS's or the compiled layers'; none: usable cores / ranks on the host", positive=True
    )
    strategy: str = option(
        "overlapped",
        "how ranks come to the same parameters: "
        + "; ".join(f"{name}: {strategy.summary}" for name, strategy in STRATEGIES.items()),
        tuple(STRATEGIES),
    )
    bucket_bytes: int | None = option(
        None, "overlapped: gradients reduced together, at most 4,096 times; none: by ranks and network", positive=True
    )
    reduce_dtype: str = option(
        "float32",
        "number format of what ranks send; those of fewer bits go with some strategies only: "
        + "; ".join(f"{dtype}: {', '.join(able)}" for dtype, able in STRATEGIES_OF_DTYPE.items() if dtype != "float32"),
        tuple(STRATEGIES_OF_DTYPE),
    )
    local_steps: int = option(20, "local: steps that each rank takes by itself", positive=True)
    outer_lr: float = option(1.0, "local: learning rate of the step on the averaged change; DiLoCo: 0.7", positive=True)
    outer_momentum: float = option(0.5, "local: its Nesterov momentum; DiLoCo, with more rounds: 0.9", below_1=True)
    check_interval: int = option(100, "compare the replicas' checksums every so many steps; 0: never")
    recover: bool = option(
        False, "go on when ranks die, with those that are left; needs Open MPI and mpirun --with-ft ulfm"
    )
    timeout_s: float = option(
        0.0, "seconds after which a rank that hangs in a step, evaluation or sample is ended; 0: by how long those took"
    )


@dataclass(frozen=True)
class TrainConfig:
    """The training run."""

    run_dir: str | None = option(None, "where the run is written; none: the next free runs/run-001, run-002, ...")
    seed: int = option(1, "of everything random: weights, data order, dropout, samples")
    max_steps: int = option(300, "optimizer steps in the whole run", positive=True)
    batch_size: int = option(16, "sequences per step, over all ranks together", positive=True)
    micro_batch_size: int | None = option(
        None, "sequences a rank works on at once; none: by the shape of the model, 512 tokens or fewer", positive=True
    )
    eval_interval: int = option(50, "steps between evaluations; 0: only at the end")
    eval_tokens: int = option(
        1 << 20, "validation tokens of an evaluation, the same each time, spread over the split; 0: all, as at the end"
    )
    checkpoint_interval: int = option(100, "steps between checkpoints; 0: only at the end and at each best evaluation")
    patience: int = option(
        0, "evaluations in a row without a better validation loss after which training stops early; 0: it never does"
    )
    keep_checkpoints: int = option(2, "the last so many checkpoints are kept, and the best one", positive=True)
    max_bad_steps: int = option(
        0,
        "steps that may be left out because their loss or gradient is not a finite number, or a spike, before it ends",
    )
    spike_limit: float = option(
        0.0, "a step whose loss is so many times the usual one is a spike, and left out; 0: there are no spikes"
    )


@dataclass(frozen=True)
class LogConfig:
    """What is shown and written along the way."""

    interval: int = option(1, "steps between lines of metrics.jsonl", positive=True)
    tensorboard: bool = option(False, "write event files for TensorBoard into the run folder, beside metrics.jsonl")
    sample_prompt: str | None = option(
        None, "what the samples continue; none: words from the middle of the validation text"
    )
    sample_tokens: int = option(100, "length of the sample written at each evaluation; 0: none")


@dataclass(frozen=True)
class Config:
    """All sections; a run's `config.toml` holds exactly these."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def replace(self, values: Mapping[str, Mapping[str, Any]]) -> "Config":
        """Return a copy with ``values[section][key]`` set, each checked against its field.

        Raises
        ------
        UserError
            An unknown section or key, or a value of the wrong type or out of its range.
        """
        sections = {}
        for section, entries in values.items():
            if section not in SECTIONS:
                raise UserError(f"unknown section [{section}]{did_you_mean(section, SECTIONS)}")
            if not isinstance(entries, Mapping):
                raise UserError(f"{section} is a section: write its keys below [{section}]")
            fields = SECTIONS[section]
            renamed = {key: RENAMED.get(f"{section}.{key}", key).removeprefix(f"{section}.") for key in entries}
            entries = {renamed[key]: value for key, value in entries.items()}
            for key in entries:
                if key not in fields:
                    raise UserError(f"unknown key {section}.{key}{did_you_mean(key, fields)}")
            checked = {key: checked_value(f"{section}.{key}", value, fields[key]) for key, value in entries.items()}
            sections[section] = dataclasses.replace(getattr(self, section), **checked)
        return dataclasses.replace(self, **sections)

    def validated(self) -> "Config":
        """Return self after checking that the values fit each other.

        Raises
        ------
        UserError
            Naming the keys and what would be right.
        """
        model, data, optim, parallel = self.model, self.data, self.optim, self.parallel
        if model.dim % model.n_heads or model.dim // model.n_heads % 2:
            raise UserError(
                f"model.dim={model.dim} must be n_heads={model.n_heads} times an even head size "
                f"(e.g. {model.n_heads * max(2, round(model.dim / model.n_heads / 2) * 2)})"
            )
        if model.n_kv_heads and model.n_heads % model.n_kv_heads:
            raise UserError(f"model.n_kv_heads={model.n_kv_heads} must divide n_heads={model.n_heads}")
        if optim.min_lr > optim.lr and optim.schedule != "constant":
            raise UserError(f"optim.min_lr={optim.min_lr} is above optim.lr={optim.lr}: lower --optim.min_lr too")
        if model.rope_high_freq_factor <= model.rope_low_freq_factor:
            raise UserError(
                f"model.rope_high_freq_factor={model.rope_high_freq_factor} must be above "
                f"rope_low_freq_factor={model.rope_low_freq_factor}"
            )
        if data.completions and data.path is None and data.shards is None:
            raise UserError("data.completions=true needs JSON Lines of your own: name them with --data.path=FILE")
        able = STRATEGIES_OF_DTYPE[parallel.reduce_dtype]
        if parallel.strategy not in able:
            raise UserError(
                f"parallel.reduce_dtype={parallel.reduce_dtype} goes with parallel.strategy={' or '.join(able)}, "
                f"not {parallel.strategy}"
            )
        return self

    def with_vocabulary(self, size: int) -> "Config":
        """Return a copy whose ``model.vocab_size`` is set: to that of the tokenizer, where it is none.

        Raises
        ------
        UserError
            It is set, and too small.
        """
        vocab_size = self.model.vocab_size or size
        if vocab_size < size:
            raise UserError(f"model.vocab_size={vocab_size} is less than the tokenizer's {size}")
        return self.replace({"model": {"vocab_size": vocab_size}})

    @property
    def vocab_size(self) -> int:
        """The size of the model's vocabulary, which `with_vocabulary` has set."""
        assert self.model.vocab_size is not None, "the size of the vocabulary is not known"
        return self.model.vocab_size


SECTIONS: dict[str, dict[str, dataclasses.Field[Any]]] = {
    section.name: {f.name: f for f in dataclasses.fields(section.default_factory)}  # type: ignore[arg-type]
    for section in dataclasses.fields(Config)
}
