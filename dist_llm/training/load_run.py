"""Loading a finished run for use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dist_llm.config import Config
from dist_llm.data.preparation import prepare
from dist_llm.errors import UserError
from dist_llm.inference.language_model import LanguageModel
from dist_llm.model.llama import Llama
from dist_llm.text import load_tokenizer
from dist_llm.training.checkpoint import find_checkpoint, load_weights
from dist_llm.training.progress import terminal_columns
from dist_llm.training.run_dir import CONFIG, TOKENIZER, read_config, run_dir_of


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
    folder = Path(state["shards"])
    return folder if (folder / "meta.json").exists() else prepare(config.data, progress=terminal_columns() > 0)


def load(run: str | Path, which: str = "best") -> LanguageModel:
    """Load the model of a run.

    Parameters
    ----------
    run : str or Path
        A run folder, or one checkpoint inside of it.
    which : {"best", "last"}
        Which checkpoint of a run folder.

    Raises
    ------
    UserError
        There is no such run, or its checkpoint is damaged.
    """
    checkpoint = find_checkpoint(Path(run).expanduser(), which)
    run_dir = run_dir_of(checkpoint)
    config = read_config(run_dir)
    if config.model.vocab_size is None:
        raise UserError(f"{run_dir / CONFIG} does not say model.vocab_size")
    model = Llama(config.model, config.model.vocab_size)
    state = load_weights(checkpoint, model.params)
    return LanguageModel(model, load_tokenizer(run_dir / TOKENIZER), config, state)
