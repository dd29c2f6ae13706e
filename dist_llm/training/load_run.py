"""Loading a finished run for use."""

from pathlib import Path
from typing import Any

from dist_llm.config import Config
from dist_llm.errors import UserError
from dist_llm.model.llama import Llama
from dist_llm.text import Tokenizer, load_tokenizer
from dist_llm.training.checkpoint import find_checkpoint, load_checkpoint
from dist_llm.training.run_dir import CONFIG, TOKENIZER, read_config, run_dir_of


def load_run(run: Path, which: str = "best") -> tuple[Llama, Tokenizer, Config, dict[str, Any]]:
    """Return the model, the tokenizer, the configuration and the checkpoint's state of a run.

    Parameters
    ----------
    run : Path
        A run folder, or one checkpoint inside of it.
    which : {"best", "last"}
        Which checkpoint of a run folder.

    Raises
    ------
    UserError
        There is no such run, or its checkpoint is damaged.
    """
    checkpoint = find_checkpoint(run, which)
    run_dir = run_dir_of(checkpoint)
    config = read_config(run_dir)
    if config.model.vocab_size is None:
        raise UserError(f"{run_dir / CONFIG} does not say model.vocab_size")
    model = Llama(config.model, config.model.vocab_size)
    state = load_checkpoint(checkpoint, model.params)
    return model, load_tokenizer(run_dir / TOKENIZER), config, state
