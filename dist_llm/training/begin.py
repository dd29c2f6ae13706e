"""The ways to begin a run, side by side.

    Fresh          random weights, in a folder of its own
    Continued      a checkpoint of a run, in that run's folder (--resume)
    FromWeights    the weights of another run or of a Hugging Face model, in a folder of its own (--init-from)

Each plans, checking all that can be checked before anything is written; finds the token shards; and opens the run
folder, with the state to begin from. All of it happens on rank 0.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dist_llm.config import SECTIONS, Config
from dist_llm.data.preparation import Data, prepare
from dist_llm.data.sources import full_path
from dist_llm.errors import UserError
from dist_llm.parallel.cores import usable_cores
from dist_llm.parallel.strategy import State
from dist_llm.settings import Settings
from dist_llm.text import is_file, load_tokenizer, save_tokenizer
from dist_llm.training.checkpoint import find_checkpoint, load_checkpoint
from dist_llm.training.checkpoint_state import read_state
from dist_llm.training.end_mark import remove_end_mark
from dist_llm.training.event_files import check_that_event_files_can_be_written
from dist_llm.training.limits import check_sizes
from dist_llm.training.load_run import load, shape_of, shards_of_run
from dist_llm.training.metrics import evaluations_since_best
from dist_llm.training.pruning import set_aside_later_checkpoints
from dist_llm.training.run_dir import (
    check_run_dir_is_free,
    config_of,
    created_run_dir,
    locked,
    run_dir_of,
    write_config,
)

# What a resumed run may not change: it would no longer be the same run. (The text may move, but not change: its tokens
# are compared.)
FIXED = (
    *(f"model.{key}" for key in SECTIONS["model"] if key not in ("recompute", "precision")),
    "train.seed", "train.batch_size", "train.run_dir",
)  # fmt: skip

# What a model of given weights may be given otherwise.
FREE_TO_CHANGE = ("max_seq_len", "dropout", "init_std", "zero_init", "recompute", "precision")


class Opened(NamedTuple):
    """A locked run folder: no other process can write to it.

    Attributes
    ----------
    folder : Path
    state : dict
        State for `TrainStep.load_state_dict`; empty for a fresh run.
    step : int
        Steps finished so far.
    """

    folder: Path
    state: dict[str, State]
    step: int


@dataclass(frozen=True)
class Fresh:
    """Begin with random weights."""

    config: Config

    @classmethod
    def plan(cls, settings: Settings) -> "Fresh":
        """Check what the user wants.

        Raises
        ------
        UserError
            The configuration is not valid, or the run folder is in use.
        """
        config = _checked(settings.apply_to(Config()))
        check_run_dir_is_free(config.train.run_dir)
        return cls(config)

    def find_shards(self) -> Path:
        """Return the folder of shards, after preparing the text if that was never done."""
        return _prepare(self.config)

    @contextmanager
    def open(self, config: Config, data: Data, shards: Path) -> Iterator[Opened]:
        """Create the run folder."""
        with created_run_dir(config.train.run_dir) as folder:
            write_config(folder, config)
            save_tokenizer(data.tokenizer, folder)
            yield Opened(folder, {}, 0)


@dataclass(frozen=True)
class FromWeights(Fresh):
    """Begin with the weights of another model, on new text and with a new optimizer."""

    source: Path

    @classmethod
    def plan_from(cls, settings: Settings, source: Path) -> "FromWeights":
        """Check what the user wants, against the model as it is.

        Parameters
        ----------
        source : Path
            A run folder, one checkpoint inside of it, or a folder with a Hugging Face Llama.

        Raises
        ------
        UserError
            There is no such model, it is not supported, or the configuration has another shape.
        """
        shape, tokenizer = shape_of(source)
        begun = Config().replace({"data": {"tokenizer": str(tokenizer)}})
        begun = dataclasses.replace(begun, model=shape)
        config = _checked(settings.apply_to(begun))
        for key in SECTIONS["model"]:
            was, now = getattr(shape, key), getattr(config.model, key)
            if now != was and key not in FREE_TO_CHANGE:
                raise UserError(
                    f"--init-from takes the shape of {source}: model.{key} is {was} and cannot become {now}"
                )
        check_run_dir_is_free(config.train.run_dir)
        return cls(config, source)

    @contextmanager
    def open(self, config: Config, data: Data, shards: Path) -> Iterator[Opened]:
        """Create the run folder, and read the weights."""
        model = load(self.source).model  # the weights do not depend on the length of the context
        with super().open(config, data, shards) as opened:
            yield opened._replace(state={"model": model.state_dict()})


@dataclass(frozen=True)
class Continued:
    """Go on from a checkpoint."""

    config: Config
    checkpoint: Path
    text_is_named: bool

    @classmethod
    def plan(cls, settings: Settings, run: Path) -> "Continued":
        """Check what the user wants, against the run as it is.

        Parameters
        ----------
        run : Path
            A run folder, or one checkpoint inside of it.

        Raises
        ------
        UserError
            There is no such run, it is finished, or the configuration is not that of the same run.
        """
        checkpoint = find_checkpoint(run)
        saved = config_of(checkpoint)
        config = _checked(settings.apply_to(saved))
        for name in FIXED:
            was, now = _value(saved, name), _value(config, name)
            if name == "train.run_dir" and now not in (was, None):
                was, now = run_dir_of(checkpoint).resolve(), Path(now).resolve()
            if now != was:
                raise UserError(f"--resume continues the same run: {name} is {was} and cannot become {now}")
        step = read_state(checkpoint)["step"]
        if step >= config.train.max_steps:
            raise UserError(
                f"{checkpoint} is after step {step}, and train.max_steps={config.train.max_steps}: the run is "
                f"finished; --train.max_steps={2 * step} would go on"
            )
        patience, since = config.train.patience, evaluations_since_best(run_dir_of(checkpoint), step)
        if 0 < patience <= since:
            raise UserError(
                f"{checkpoint} follows {since} evaluations without a better validation loss, and train.patience="
                f"{patience}: the run has stopped early; --train.patience={since + patience} would go on"
            )
        return cls(config, checkpoint, text_is_named="data" in settings.overrides)

    def find_shards(self) -> Path:
        """Return the folder of shards: the run's, or that of the text which the user names anew."""
        if self.text_is_named:
            return _prepare(self.config)
        return shards_of_run(self.config, read_state(self.checkpoint))

    @contextmanager
    def open(self, config: Config, data: Data, shards: Path) -> Iterator[Opened]:
        """Load the checkpoint, and set the run folder back to its step.

        Raises
        ------
        UserError
            The text is not the one that was trained on, or the checkpoint is damaged.
        """
        folder = run_dir_of(self.checkpoint)
        with locked(folder):
            if load_tokenizer(folder).fingerprint != data.tokenizer.fingerprint:
                raise UserError(f"{shards} was made with another tokenizer than {folder}")
            parts, state = load_checkpoint(self.checkpoint, config.model)
            if state.get("train_tokens") != data.train.fingerprint:
                raise UserError(
                    f"the text has changed since {self.checkpoint}: its training tokens in {shards} are others"
                )
            set_aside_later_checkpoints(folder, state["step"])
            remove_end_mark(folder)
            write_config(folder, config)
            yield Opened(folder, parts, state["step"])


def _checked(config: Config) -> Config:
    """Return the configuration, which can be had here, with paths that hold where the run may be resumed."""
    check_sizes(config)
    if config.log.tensorboard:
        check_that_event_files_can_be_written()
    named = {key: getattr(config.data, key) for key in ("shards", "tokenizer")}
    data = {"path": config.data.path and full_path(config.data.path)}
    data |= {
        key: str(Path(path).expanduser().resolve())
        for key, path in named.items()
        if path and (key != "tokenizer" or is_file(path))
    }
    run_dir = config.train.run_dir and str(Path(config.train.run_dir).expanduser())
    return config.replace({"data": data, "train": {"run_dir": run_dir}})


def _prepare(config: Config) -> Path:
    return prepare(config.data, True, lambda line: print(line, flush=True), usable_cores())


def _value(config: Config, name: str) -> Any:
    section, key = name.split(".")
    return getattr(getattr(config, section), key)
