"""A folder that comes to be by and by: whole under its name or not there, and continued after an interruption."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from dist_llm.atomic import fsync, make_folder, remove_litter, whole_folder
from dist_llm.errors import RunError
from dist_llm.file_lock import try_lock

LOCK = ".lock"
KEPT_S = 7 * 24 * 3600  # how long a folder waits to be continued


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
    make_folder(path.parent)
    _remove_ownerless(path.parent, partial)
    if partial.is_symlink():  # what is old in the folder is deleted, and this would be another one
        partial.unlink()
    partial.mkdir(exist_ok=True)
    with try_lock(partial / LOCK) as is_ours:
        if not is_ours:
            with whole_folder(path) as private:
                yield private
            return
        try:
            remove_litter(partial, held=True)
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


def _remove_ownerless(folder: Path, wanted: Path) -> None:
    """Remove what killed processes have left beside a partial folder, and partial ones that nobody will continue.

    They are those whose whole folder is there, and those that have waited for long.
    """
    remove_litter(folder)
    for partial in folder.glob(".*.partial"):
        whole = folder / partial.name[1:].removesuffix(".partial")
        ours = any((partial / name).is_file() for name in (LOCK, "meta.json"))
        if partial == wanted or not ours:
            continue
        with contextlib.suppress(OSError):
            if not whole.exists() and time.time() - partial.stat().st_mtime < KEPT_S:
                continue
            with try_lock(partial / LOCK) as is_ours:
                if is_ours:
                    shutil.rmtree(partial, ignore_errors=True)
