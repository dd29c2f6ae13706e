"""A folder that comes to be by and by: whole under its name or not there, and continued after an interruption."""

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from dist_llm.atomic import fsync, whole_folder
from dist_llm.errors import RunError

LOCK = ".lock"


def partial_path(path: Path) -> Path:
    """Return where a folder is until it is whole."""
    return path.with_name(f".{path.name}.partial")


@contextlib.contextmanager
def continued_folder(path: Path) -> Iterator[Path]:
    """Give a folder to write files into, which then becomes `path`.

    After a Ctrl-C, a kill, a full disk or the end of a worker it stays, and the next one to ask is given it with all
    that is in it. After another error nothing is left. Who asks while somebody else has it is given an empty one.

    Raises
    ------
    OSError
        The folder cannot be written, or is there already.
    """
    partial = partial_path(path)
    if partial.is_symlink():  # what is old in the folder is deleted, and this would be another one
        partial.unlink()
    partial.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(partial / LOCK, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with whole_folder(path, uuid.uuid4().hex[:8]) as private:
                yield private
            return
        try:
            yield partial
            (partial / LOCK).unlink()
            for written in (*partial.iterdir(), partial):
                fsync(written)
            partial.rename(path)
            fsync(path.parent)
        except BaseException as error:
            if path.exists() or not isinstance(error, KeyboardInterrupt | OSError | RunError):
                shutil.rmtree(partial, ignore_errors=True)
            raise
    finally:
        os.close(descriptor)
