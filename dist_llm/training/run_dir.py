"""The run folder: where a run writes, and how a run is found again."""

import contextlib
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dist_llm.atomic import is_temporary, make_folder, remove_litter, write_bytes
from dist_llm.config import SECTIONS, Config, ModelConfig
from dist_llm.errors import UserError
from dist_llm.file_lock import try_lock
from dist_llm.interop import huggingface
from dist_llm.interop.weights import check_size
from dist_llm.regular_file import open_regular
from dist_llm.settings import parse_toml, read_configuration, to_toml
from dist_llm.training.checkpoint import CHECKPOINTS, is_checkpoint, list_checkpoints, open_tensors
from dist_llm.training.checkpoint_state import read_state

CONFIG = "config.toml"
METRICS = "metrics.jsonl"
LOCK = ".lock"
CHECKSUM = b"# SHA-256 of what follows: "
UNSAID = {"optim": {"optimizer": "adamw", "average": 0.0}}  # by runs of versions that had no other
FOLDERS = (CHECKPOINTS, "samples")  # where a run writes, beside its own folder
LONG_LINE = 1 << 16  # bytes; a record is much shorter
# What a run writes before its first step. A run that has come no further has nothing to lose.
START_UP = {CONFIG, LOCK, "tokenizer.json", "tokenizer_config.json"}


def check_run_dir_is_free(run_dir: str | None) -> None:
    """Refuse a folder that has something in it, but for what is left of a run that ended before its first step.

    Raises
    ------
    UserError
    """
    if run_dir is None:
        return
    folder = Path(run_dir)
    if not folder.exists() or (folder.is_dir() and all(_is_left_by_a_start(path) for path in folder.iterdir())):
        return
    if not (folder / CONFIG).exists():
        raise UserError(f"{folder} exists and is not an empty folder: choose another --train.run_dir")
    if not list_checkpoints(folder):
        raise UserError(
            f"{folder} already holds a run, without a checkpoint: if it is no longer under way, delete the folder; "
            "or choose another --train.run_dir"
        )
    raise UserError(
        f"{folder} already holds a run: --resume {folder} continues it, another --train.run_dir starts anew"
    )


def _is_left_by_a_start(path: Path) -> bool:
    """Whether a path is what a run writes before it has finished a step, or half of its first checkpoint."""
    if path.is_dir():
        return path.name == CHECKPOINTS and all(map(is_temporary, path.iterdir()))
    if path.name == METRICS:
        try:
            with open_regular(path) as file:
                line = file.readline(LONG_LINE)
        except OSError:
            return False
        return len(line) < LONG_LINE and not line.endswith(b"\n")
    return path.name in START_UP or is_temporary(path)


@contextlib.contextmanager
def created_run_dir(run_dir: str | None) -> Iterator[Path]:
    """Create the run folder, or the next free ``runs/run-001`` if none is named, and hold it as `locked` does.

    Raises
    ------
    UserError
        It cannot be created, is not free, or another process holds it.
    """
    try:
        if run_dir is None:
            folder = next_numbered("run")
        else:
            folder = Path(run_dir)
            make_folder(folder)
    except OSError as error:
        raise UserError(f"cannot create the run folder: {error}; choose another with --train.run_dir") from error
    with locked(folder):  # of two runs that start at the same time, one has the folder
        check_run_dir_is_free(run_dir)
        yield folder


def is_gone(run_dir: Path) -> bool:
    """Whether the folder of a run that is under way has been deleted or moved."""
    try:
        return not (run_dir / CONFIG).exists()
    except OSError:  # a failing disk tells itself where something is written
        return False


def check_run_dir_is_there(run_dir: Path) -> None:
    """Notice that the folder of a run that is under way `is_gone`.

    Raises
    ------
    UserError
    """
    if is_gone(run_dir):
        raise UserError(
            f"the run folder {run_dir} has been deleted or moved, and there is nowhere to keep what is trained: start "
            "again, or continue from a copy of it with --resume"
        )


def next_numbered(kind: str) -> Path:
    """Create and return the next free folder of a kind: ``runs/run-001``, ``runs/run-002``, ..."""
    for number in itertools.count(1):
        folder = Path("runs") / f"{kind}-{number:03d}"
        with contextlib.suppress(FileExistsError):
            make_folder(folder.parent)
            folder.mkdir()
            return folder
    raise AssertionError  # there is always a next number


@contextlib.contextmanager
def locked(run_dir: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a run, so that no other process can continue it at the same time; a process that dies lets go of it.

    What such a process has left half written is removed.

    Parameters
    ----------
    wait_s : float
        How long to wait for a process that is dying.

    Raises
    ------
    UserError
        Another process holds it, or it would write through a link to somewhere else.
    """
    for name in FOLDERS:
        if (run_dir / name).is_symlink():
            raise UserError(
                f"{run_dir / name} is a link, and a run writes nothing outside of its folder: put in its place what "
                "it leads to, or link the whole run folder"
            )
    lock = run_dir / LOCK
    with contextlib.ExitStack() as held:
        try:
            is_ours = held.enter_context(try_lock(lock, wait_s))
        except OSError as error:
            raise UserError(f"cannot lock the run folder with {lock} ({error.strerror}): remove that file") from error
        if not is_ours:
            raise UserError(f"another process is training the run {run_dir}: wait for its end, or end it")
        for folder in (run_dir, run_dir / "samples", run_dir / CHECKPOINTS, *list_checkpoints(run_dir)):
            remove_litter(folder, held=True)
        yield


def may_write(run_dir: Path) -> bool:
    """Whether this process sees the folder of a run, and may write to it."""
    return (run_dir / CONFIG).is_file() and os.access(run_dir, os.W_OK | os.X_OK)


def write_config(run_dir: Path, config: Config) -> None:
    """Write the configuration of a run, below a line with its checksum: half of one is a configuration too."""
    text = to_toml(config).encode()
    write_bytes(run_dir / CONFIG, _checksum_line(text) + text)


def read_config(run_dir: Path) -> Config:
    """Return what the configuration of a run says, whoever has written it.

    Raises
    ------
    UserError
        The folder is no run.
    """
    return _parsed(run_dir / CONFIG, _content(run_dir))


def config_of(checkpoint: Path) -> Config:
    """Return the configuration of a checkpoint's run, as it was written and compared with what the checkpoint knows.

    Raises
    ------
    UserError
        It is truncated or altered, or that of another run, or describes another model than the checkpoint's.
    """
    run_dir = run_dir_of(checkpoint)
    path, content = run_dir / CONFIG, _content(run_dir)
    first, _, rest = content.partition(b"\n")
    # Older versions wrote no checksum; at least, the first and the last section are there.
    is_older = content.startswith(b"[model]\n") and b"\n[log]\n" in content and content.endswith(b"\n")
    if _checksum_line(rest) != first + b"\n" and not is_older:
        raise UserError(
            f"{path} is not as it was written, but truncated or edited: options such as --train.max_steps=600 change "
            "settings; if the edit is yours, delete the first line"
        )
    config = _parsed(path, content)
    for name, was in _recorded(checkpoint).items():
        section, key = name.split(".")
        now = getattr(_comparable(config.model) if section == "model" else config.train, key)
        if now != was:
            raise UserError(f"{path} says {name}={now}, and {checkpoint} was trained with {was}: correct the file")
    if config.model.vocab_size is None:
        raise UserError(f"{path} does not say model.vocab_size: it is no longer the configuration of a run")
    check_size(open_tensors(checkpoint), config.model, path)
    return config


def _content(run_dir: Path) -> bytes:
    if not (run_dir / CONFIG).exists():
        raise UserError(f"{run_dir} is not a run folder: it has no {CONFIG}")
    return read_configuration(run_dir / CONFIG)


def _parsed(path: Path, content: bytes) -> Config:
    document = parse_toml(path, content)
    try:
        return Config().replace(UNSAID).replace(document).validated()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _checksum_line(text: bytes) -> bytes:
    return CHECKSUM + hashlib.sha256(text).hexdigest().encode() + b"\n"


def _recorded(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint knows of the configuration, by dotted names: what must not change when it is resumed."""
    state = read_state(checkpoint)
    recorded: dict[str, Any] = {"train.seed": state["seed"]} if "seed" in state else {}
    if huggingface.CONFIG in state["sha256"]:
        model = _comparable(huggingface.read_config(checkpoint))
        recorded |= {f"model.{key}": getattr(model, key) for key in SECTIONS["model"]}
        if state["step"] and "tokens" in state:
            recorded["train.batch_size"] = state["tokens"] / state["step"] / model.max_seq_len
    return recorded


def _comparable(model: ModelConfig) -> ModelConfig:
    """Return a shape without what the form of Hugging Face does not hold, or says in another way."""
    same: dict[str, Any] = {"dropout": 0.0, "zero_init": False, "recompute": False, "precision": "float32"}
    same["n_kv_heads"] = model.n_kv_heads or model.n_heads
    if model.rope_scaling_factor == 1:
        same |= {
            key: getattr(ModelConfig, key) for key in SECTIONS["model"] if key in huggingface.ROPE_SCALING.values()
        }
    return dataclasses.replace(model, **same)


def run_dir_of(path: Path) -> Path:
    """Return the run folder of a run folder or of one of its checkpoints."""
    if not is_checkpoint(path):
        return path
    return path.parent.parent if path.parent.name == CHECKPOINTS else path.resolve().parent.parent
