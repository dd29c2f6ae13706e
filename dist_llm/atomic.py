"""Files and folders that are whole or absent, whenever the machine stops.

Each is written under a temporary name beside its own, reaches the disk, and is renamed. After an error or an interrupt
nothing is left of it. Whether one is still what was written, its checksum tells. A link that lies where the temporary
file or folder goes is removed, and never followed.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from dist_llm.regular_file import open_regular


def fsync(path: Path) -> None:
    """Wait until a file or folder has reached the disk; without that, a rename may get there before the content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def whole_file(path: Path, writer: str = "") -> Iterator[Path]:
    """Give a path to write a file to, which then replaces `path`.

    Parameters
    ----------
    writer : str
        Distinguishes writers that may be at work at the same time: it becomes a part of the temporary name.
    """
    temporary = _temporary(path, writer)
    try:
        remove(temporary)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
        yield temporary
        fsync(temporary)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def whole_folder(path: Path, writer: str = "") -> Iterator[Path]:
    """Give an empty folder to write files into, which then becomes `path`; nothing may be there yet.

    What a killed writer of the same name has left behind is removed first.
    """
    temporary = _temporary(path, writer)
    try:
        remove(temporary)
        temporary.mkdir(parents=True)
        yield temporary
        for written in (*temporary.iterdir(), temporary):
            fsync(written)
        temporary.rename(path)
        fsync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder; whoever looks sees all of it or none of it under its name."""
    shutil.rmtree(path.rename(_temporary(path, "")))


def remove(path: Path) -> None:
    """Remove what is there, if anything is: a file, a folder with all that is in it, or a link, but not its target."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file, in place of an older one if there is one."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a small file of text, as `write_bytes`."""
    write_bytes(path, text.encode())


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _temporary(path: Path, writer: str) -> Path:
    return path.with_name(f".{path.name}{f'.{writer}' if writer else ''}.tmp")
