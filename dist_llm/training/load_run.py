"""Loading a model for use: a run's, or Hugging Face's."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dist_llm.config import Config, ModelConfig
from dist_llm.data.loader import Tokens
from dist_llm.data.preparation import open_data, prepare
from dist_llm.errors import UserError
from dist_llm.fast.selection import model_class
from dist_llm.inference.language_model import LanguageModel
from dist_llm.interop import huggingface
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.cores import usable_cores
from dist_llm.parallel.hosts import first_of_host
from dist_llm.text import TOKENIZER, TOKENIZER_CONFIG, Tokenizer, load_tokenizer
from dist_llm.training.checkpoint import find_checkpoint, is_checkpoint, load_weights
from dist_llm.training.checkpoint_state import DamagedCheckpointError, read_state
from dist_llm.training.run_dir import CONFIG, config_of, run_dir_of


def shards_of_run(config: Config, state: Mapping[str, Any]) -> Path:
    """Return the folder of the token shards a run was trained on: where they were, or prepared again.

    Parameters
    ----------
    config : Config
        Configuration of the run.
    state : mapping
        State of one of its checkpoints.

    Raises
    ------
    UserError
        Neither the shards nor the text are there any more.
    """
    if "shards" in state and (Path(state["shards"]) / "meta.json").exists():
        return Path(state["shards"])
    return prepare(config.data, True, n_workers=usable_cores())


def open_validation_text(model: LanguageModel, source: Path, shards: Path | None, comm: Comm) -> Tokens:
    """Return the validation split that a model is measured on; a collective call.

    Parameters
    ----------
    source : Path
        What the model was loaded from.
    shards : Path or None
        Prepared folder; None: that of the model's run.

    Raises
    ------
    UserError
        There is none, its text has changed, or its tokens are those of another tokenizer.
    """

    def find() -> Path:
        if shards is not None:
            return shards.expanduser()
        if "shards" not in model.state:
            raise UserError(f"{source} has no validation text of its own: name a text with --text")
        return shards_of_run(model.config, model.state)

    folder = comm.on_rank_0(find)
    checks = first_of_host(comm)[comm.rank] == comm.rank

    def open_there() -> Tokens:
        tokenizer, train, val = open_data(folder, verify=checks)
        if shards is None and train.fingerprint != model.state.get("train_tokens"):
            raise UserError(f"the text has changed since {source}: the tokens in {folder} are others")
        if tokenizer.fingerprint != model.tokenizer.fingerprint:
            raise UserError(f"{folder} was made with another tokenizer than {source}")
        return val

    return comm.on_every_rank(open_there)


def load(source: str | Path, which: str = "best", compiled: bool = False) -> LanguageModel:
    """Load a model with its tokenizer.

    Parameters
    ----------
    source : str or Path
        A run folder, one checkpoint inside of it, or a folder with a Hugging Face Llama.
    which : {"best", "last"}
        Which checkpoint of a run folder.
    compiled : bool
        Whether it generates by a compiled function, which takes a moment to start and is then several times as fast.
        It adds up in another order, so a text may, rarely, go on differently than without.

    Raises
    ------
    UserError
        There is no such model, it is damaged or not supported, or what compiles is not installed.
    """
    folder, kind = Path(source).expanduser(), model_class(compiled)
    if is_foreign(folder):
        config = dataclasses.replace(Config(), model=huggingface.read_config(folder))
        tokenizer = load_tokenizer(folder)
        config.with_vocabulary(tokenizer.vocab_size)
        return LanguageModel(huggingface.load_model(folder, config.model, kind), tokenizer, config)
    checkpoint = find_checkpoint(folder, which)
    try:
        config, tokenizer = config_of(checkpoint), tokenizer_of(checkpoint)
        config.with_vocabulary(tokenizer.vocab_size)
        model = kind(config.model, config.vocab_size)
        state = load_weights(checkpoint, model)
    except (DamagedCheckpointError, OSError):
        if checkpoint.exists() or is_checkpoint(folder):
            raise
        return load(source, which, compiled)  # the run goes on, and has removed it meanwhile
    return LanguageModel(model, tokenizer, config, state)


def tokenizer_of(checkpoint: Path) -> Tokenizer:
    """Return the tokenizer of a verified checkpoint's run, compared with the checkpoint's own copy.

    Raises
    ------
    UserError
        It is damaged, or another one.
    """
    run_dir = run_dir_of(checkpoint)
    tokenizer = load_tokenizer(run_dir)
    if TOKENIZER in read_state(checkpoint)["sha256"]:
        copy = load_tokenizer(checkpoint)
        if (tokenizer.to_json(), tokenizer.end_of_text) != (copy.to_json(), copy.end_of_text):
            raise UserError(
                f"the tokenizer {run_dir / TOKENIZER} is damaged, or not the one that {checkpoint} was trained with: "
                f"copy {TOKENIZER} and {TOKENIZER_CONFIG} from there"
            )
    return tokenizer


def shape_of(source: Path) -> tuple[ModelConfig, Path]:
    """Return the shape of a model to begin from, and the path of its tokenizer.json.

    Raises
    ------
    UserError
        As `load`.
    """
    if is_foreign(source):
        shape = huggingface.read_config(source, huggingface.LONGEST_SEQ_LEN)
        huggingface.open_weights(source, shape)
        return shape, source / TOKENIZER
    checkpoint = find_checkpoint(source, "best")
    tokenizer_of(checkpoint)
    return config_of(checkpoint).model, run_dir_of(checkpoint) / TOKENIZER


def is_foreign(folder: Path) -> bool:
    """Whether a folder is a model of Hugging Face's, and neither a run of ours nor one of its checkpoints."""
    return huggingface.is_model(folder) and not is_checkpoint(folder) and not (folder / CONFIG).exists()
