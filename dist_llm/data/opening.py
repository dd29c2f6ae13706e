"""The bytes of a file, unpacked: plain, gzip (`.gz`) or zstd (`.zst`), a block at a time.

What a file is called and what it begins with must agree. A file of another format is never taken for text.
"""

import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from dist_llm.errors import UserError
from dist_llm.regular_file import open_regular

BLOCK_BYTES = 1 << 20
PACKED_BYTES = 1 << 14  # read of a zstd file at once: a byte of it may stand for thousands

# How files of other formats begin, what they are, and what to do with them.
MAGIC = {
    b"\x1f\x8b": ("gzip", "rename it to {name}.gz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "rename it to {name}.zst"),
    b"BZh": ("bzip2", "unpack it with bunzip2"),
    b"\xfd7zXZ": ("xz", "unpack it with unxz"),
    b"PK\x03\x04": ("a zip archive", "unpack it into a folder, and name that"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it into a folder, and name that"),
    b"PAR1": ("Parquet", "convert it to JSON Lines, e.g. with pandas: read_parquet and to_json(lines=True)"),
    b"%PDF": ("PDF", "convert it to text, e.g. with pdftotext"),
    b"\xff\xfe": ("UTF-16", "convert it first, e.g. iconv -f utf-16 -t utf-8"),
    b"\xfe\xff": ("UTF-16", "convert it first, e.g. iconv -f utf-16 -t utf-8"),
}
PACKINGS = {".gz": "gzip", ".zst": "zstd"}
NOT_UTF8 = ("not UTF-8 text", "convert it first, e.g. iconv -f latin1 -t utf-8")
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257


class OtherFormatError(Exception):
    """A file is not what can be read here.

    Parameters
    ----------
    what : str
        What it is: "not UTF-8 text", or the like.
    advice : str
        What to do with it.
    where : str
        Where that was seen.
    """

    def __init__(self, what: str, advice: str, where: str = "") -> None:
        super().__init__(what, advice, where)
        self.what, self.advice, self.where = what, advice, where

    def of(self, path: Path) -> UserError:
        """Return what a user is told who has named the file."""
        where = f" ({self.where})" if self.where else ""
        return UserError(f"{path} is {self.what}{where}: {self.advice}")


@contextmanager
def told_to_the_user(path: Path, advice: str) -> Iterator[None]:
    """Raise what goes wrong with a file in a ``with`` block as a `UserError`; `advice` is for an unreadable one."""
    try:
        yield
    except OtherFormatError as error:
        raise error.of(path) from error
    except UnicodeDecodeError as error:
        raise OtherFormatError(*NOT_UTF8).of(path) from error
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): {advice}") from error


def packing(path: Path) -> str | None:
    """Return "gzip" or "zstd", if a file's name says so."""
    return PACKINGS.get(path.suffix.lower())


def unpacked(path: Path, read: Callable[[int], object] = lambda n: None, member: str = "") -> Iterator[bytes]:
    """Yield the content of a file in blocks, never empty ones.

    Parameters
    ----------
    read : callable
        Is told how many bytes of the file itself have been read since it was last told.
    member : str
        The file to read within a zip archive.

    Raises
    ------
    OtherFormatError
        Its content is of another format than its name says, or of one that is not text.
    UserError
        It is damaged, or packed by zstd and there is no package to unpack it.
    OSError
        It cannot be read, or is a FIFO or a device.
    """
    with open_regular(path) as file:
        unpack: Callable[[BinaryIO, Path], Iterator[bytes]]
        if member:
            unpack = partial(_unzip, member)
        else:
            _check_beginning(path, file.read(8))
            file.seek(0)
            unpack = {"gzip": _gunzip, "zstd": _unzstd, None: _plain}[packing(path)]
        at = 0
        first = True
        for block in unpack(file, path):
            if first and block[TAR_MAGIC_AT:].startswith(TAR_MAGIC):
                raise OtherFormatError("a tar archive", "unpack it into a folder, and name that")
            first = False
            yield block
            at, before = file.tell(), at
            read(at - before)


def _check_beginning(path: Path, beginning: bytes) -> None:
    name = packing(path)
    for magic, (what, advice) in MAGIC.items():
        if beginning.startswith(magic):
            if what != name:
                raise OtherFormatError(f"{what} by content", advice.format(name=path.name))
            return
    if name and beginning:
        raise OtherFormatError(f"not {name} by content", f"leave {path.suffix} out of its name")


def _plain(file: BinaryIO, path: Path) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _unzip(member: str, file: BinaryIO, path: Path) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(file) as archive, archive.open(member) as content:
            while block := content.read(BLOCK_BYTES):
                yield block
    except (EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}): get it again") from error


def _gunzip(file: BinaryIO, path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(file) as content:
            while block := content.read(BLOCK_BYTES):
                yield block
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}): get it again") from error


def _unzstd(file: BinaryIO, path: Path) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise UserError(
            f"{path} is packed by zstd: pip install zstandard (or unpack it with unzstd) and try again"
        ) from error
    frame = None  # a file may be several, one after another
    try:
        while packed := file.read(PACKED_BYTES):
            while packed:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                block = frame.decompress(packed)
                packed = b""
                if frame.eof:
                    packed, frame = frame.unused_data, None
                if block:
                    yield block
    except zstandard.ZstdError as error:
        raise UserError(f"{path} is damaged ({error}): get it again") from error
    if frame is not None:
        raise UserError(f"{path} is damaged (it ends too early): get it again")
