"""Files and folders that are whole or absent, whenever the machine stops.

Each is written under a temporary name beside its own, reaches the disk, and is renamed. After an error or an interrupt
nothing is left of it; after a kill there is, under a name that says whose it was, until `remove_litter`. A link that
lies where the temporary file or folder goes is removed, and never followed. Whether a file is still what was written,
its checksum tells.
"""

import contextlib
import hashlib
import itertools
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from dist_llm.regular_file import open_regular

HOST = socket.gethostname()
NUMBERS = itertools.count()


def fsync(path: Path) -> None:
    """Wait until a file or folder has reached the disk; without that, a rename may get there before the content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write a file to, which then replaces `path`."""
    temporary = _temporary(path)
    try:
        remove(temporary)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
        yield temporary
        fsync(temporary)
        os.replace(temporary, path)
        fsync(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to write files into, which then becomes `path`; nothing may be there yet."""
    temporary = _temporary(path)
    try:
        make_folder(path.parent)
        remove(temporary)
        temporary.mkdir()
        yield temporary
        for written in (*temporary.iterdir(), temporary):
            fsync(written)
        temporary.rename(path)
        fsync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there; each reaches the disk."""
    if path.is_dir():
        return
    if not path.parent.exists():
        make_folder(path.parent)
    path.mkdir(exist_ok=True)
    fsync(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder; whoever looks sees all of it or none of it under its name."""
    temporary = _temporary(path)
    path.rename(temporary)
    fsync(path.parent)  # or the disk might know that a file is gone before it knows the new name
    shutil.rmtree(temporary)


def remove_litter(folder: Path, held: bool = False) -> None:
    """Remove what killed processes have left in a folder under temporary names, as far as that is possible.

    Parameters
    ----------
    held : bool
        Whether the caller sees to it that nobody else writes there now, so that all of it is litter. Otherwise that is
        litter which belongs to a process of this host that is no more.
    """
    for path in folder.glob(".*.tmp"):
        if held or _is_owner_gone(path.name):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()


def is_temporary(path: Path) -> bool:
    """Whether a path has the name of something that is not yet whole, or no longer."""
    return path.name.startswith(".") and path.suffix == ".tmp"


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


class AppendedFile:
    """A file that grows by whole pieces: of one that could not be written nothing is left, and the next goes first.

    Parameters
    ----------
    path : Path
        Made if it is missing.
    size : int
        What is beyond so many bytes is cut off.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self._size = path, size
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        self._file = open(descriptor, "ab", buffering=0)  # noqa: SIM115
        self._file.truncate(size)
        self._unwritten = bytearray()

    def append(self, piece: bytes) -> None:
        """Write what an earlier call could not write, and this.

        Raises
        ------
        OSError
            All of that is kept for the next call.
        """
        self._unwritten += piece
        try:
            done = 0
            while done < len(self._unwritten):
                done += self._file.write(memoryview(self._unwritten)[done:])
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            raise
        self._size += done
        self._unwritten = bytearray()

    def close(self) -> None:
        """Close the file, after another attempt to write what is left.

        Raises
        ------
        OSError
            It is lost.
        """
        try:
            self.append(b"")
        finally:
            self._file.close()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}@{HOST}-{os.getpid()}-{next(NUMBERS)}.tmp")


def _is_owner_gone(name: str) -> bool:
    owner = re.fullmatch(r".*@(.+)-(\d{1,9})-\d+\.tmp", name)
    if not owner or owner[1] != HOST:
        return False
    try:
        os.kill(int(owner[2]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's
        return False
    return False
