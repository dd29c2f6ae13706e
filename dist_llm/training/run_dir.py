"""The run folder: where a run writes, and how a run is found again."""

import contextlib
import fcntl
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from dist_llm.config import Config
from dist_llm.errors import UserError
from dist_llm.settings import read_toml
from dist_llm.training.checkpoint import is_checkpoint

CONFIG = "config.toml"


def check_run_dir_is_free(run_dir: str | None) -> None:
    """Refuse a folder that has something in it.

    Raises
    ------
    UserError
    """
    if run_dir is None:
        return
    folder = Path(run_dir)
    if (folder / CONFIG).exists():
        raise UserError(
            f"{folder} already holds a run: --resume {folder} continues it, another --train.run_dir starts anew"
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not an empty folder: choose another --train.run_dir")


def create_run_dir(run_dir: str | None) -> Path:
    """Create the run folder, or the next free ``runs/run-001`` if none is named, and return it.

    Raises
    ------
    UserError
        It cannot be created or is not empty.
    """
    check_run_dir_is_free(run_dir)
    try:
        if run_dir is None:
            return next_numbered("run")
        folder = Path(run_dir)
        folder.mkdir(parents=True, exist_ok=True)
        # Of two runs that start at the same time, the one that makes this file has the folder.
        (folder / CONFIG).touch(exist_ok=False)
        return folder
    except OSError as error:
        raise UserError(f"cannot create the run folder: {error}; choose another with --train.run_dir") from error


def next_numbered(kind: str) -> Path:
    """Create and return the next free folder of a kind: ``runs/run-001``, ``runs/run-002``, ..."""
    for number in itertools.count(1):
        folder = Path("runs") / f"{kind}-{number:03d}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError  # there is always a next number


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold a run, so that no other process can continue it at the same time; a process that dies lets go of it.

    Raises
    ------
    UserError
        Another process holds it.
    """
    descriptor = os.open(run_dir / ".lock", os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f"another process is training the run {run_dir}: wait for its end, or end it") from None
    finally:
        os.close(descriptor)


def read_config(run_dir: Path) -> Config:
    """Return the configuration a run was started with.

    Raises
    ------
    UserError
        The folder is no run.
    """
    if not (run_dir / CONFIG).is_file():
        raise UserError(f"{run_dir} is not a run folder: it has no {CONFIG}")
    return Config().replace(read_toml(run_dir / CONFIG)).validated()


def run_dir_of(path: Path) -> Path:
    """Return the run folder of a run folder or of one of its checkpoints."""
    if not is_checkpoint(path):
        return path
    return path.parent.parent if path.parent.name == "checkpoints" else path.resolve().parent.parent
