"""The documents of a corpus in one file, and a table of where each begins: a corpus may be larger than the memory.

    documents.txt     the documents as UTF-8, one after another
    documents.table   a record of `TABLE` for each

What comes later (the split, the tokenizer, the shards) reads both as often as it likes, from anywhere, and on several
cores. The files stay until the shards are made.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple

import numpy as np

from dist_llm.atomic import sha256
from dist_llm.data.documents import Part
from dist_llm.text.seams import LONGEST, find_seam

SPOOL_FILES = TEXT, TABLE_FILE = "documents.txt", "documents.table"
RECORD = Struct("<QQQQQH")
TABLE = np.dtype(
    {
        # The first 16 bytes of the SHA-256 of the text without the white space around it; big end first, so that
        # the order of the numbers is that of the digests. Then bytes, characters, and the place of the source.
        "names": ["high", "low", "start", "n_bytes", "n_chars", "source"],
        "formats": ["<u8", "<u8", "<u8", "<u8", "<u8", "<u2"],
        "itemsize": RECORD.size,
        "offsets": [0, 8, 16, 24, 32, 40],
    }
)
RECORDS_AT_ONCE = 1 << 18
BLOCK = 1 << 20


class Mark(NamedTuple):
    """A place to go back to."""

    n_bytes: int
    n_documents: int


class Spool:
    """Writes documents down as they come.

    Parameters
    ----------
    folder : Path
        What there is of an older spool in it is overwritten.
    """

    def __init__(self, folder: Path) -> None:
        self._text = open(folder / TEXT, "wb", buffering=BLOCK)  # noqa: SIM115
        self._table = open(folder / TABLE_FILE, "wb", buffering=BLOCK)  # noqa: SIM115
        self._end = self._n_documents = 0
        self._begun: _Long | None = None

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._text.close()
        self._table.close()

    def add(self, part: Part, source: int = 0) -> None:
        """Write a document, or the next part of a long one; one without any text is left out."""
        if self._begun is None and part.last:
            text = part.text.strip("\r\n") if part.divided else part.text
            if core := text.strip():
                utf8 = text.encode("utf-8", "surrogatepass")
                # In most documents there is nothing to strip, and they are encoded once.
                same = utf8 if len(core) == len(text) else core.encode("utf-8", "surrogatepass")
                start = self._end
                self._write(utf8)
                self._record(hashlib.sha256(same).digest(), start, len(utf8), len(text), source)
            return
        self._begun = self._begun or _Long(self._end)
        self._begun.add(part.text)
        self._write(part.text.encode("utf-8", "surrogatepass"))
        if part.last:
            begun, self._begun = self._begun, None
            leading, trailing = (begun.leading, begun.trailing) if part.divided else (0, 0)
            if begun.has_text:
                stripped = leading + trailing
                n_bytes = self._end - begun.start - stripped
                self._record(begun.digest(), begun.start + leading, n_bytes, begun.n_chars - stripped, source)

    def mark(self) -> Mark:
        """Return where the next document will begin."""
        return Mark(self._end, self._n_documents)

    def go_back(self, mark: Mark) -> None:
        """Forget the documents that were written since a mark."""
        self._begun = None
        self._end, self._n_documents = mark
        for file, end in ((self._text, self._end), (self._table, self._n_documents * RECORD.size)):
            file.seek(end)
            file.truncate()

    def _write(self, utf8: bytes) -> None:
        self._text.write(utf8)
        self._end += len(utf8)

    def _record(self, digest: bytes, start: int, n_bytes: int, n_chars: int, source: int) -> None:
        high, low = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:16], "big")
        self._table.write(RECORD.pack(high, low, start, n_bytes, n_chars, source))
        self._n_documents += 1


class _Long:
    """What is to be known of a document that comes in parts."""

    def __init__(self, start: int) -> None:
        self.start, self.n_chars = start, 0
        self.leading = self.trailing = 0  # line breaks at its ends
        self.has_text = False
        # Of the text from its first character that is not white, and of that to its last one.
        self._all, self._core = hashlib.sha256(), hashlib.sha256()

    def add(self, text: str) -> None:
        if not text:
            return
        ends = len(text) - len(text.rstrip("\r\n"))
        if self.n_chars == self.leading:
            self.leading += len(text) - len(text.lstrip("\r\n"))
        self.trailing = self.trailing + ends if ends == len(text) else ends
        self.n_chars += len(text)
        if not self.has_text:
            text = text.lstrip()
        core = text.rstrip()
        if core:
            self.has_text = True
            self._all.update(core.encode("utf-8", "surrogatepass"))
            self._core = self._all.copy()
        self._all.update(text[len(core) :].encode("utf-8", "surrogatepass"))

    def digest(self) -> bytes:
        return self._core.digest()


class Documents:
    """Reads a spool.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._table = folder, folder / TABLE_FILE
        self._descriptor = os.open(folder / TEXT, os.O_RDONLY)

    def __enter__(self) -> "Documents":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def __len__(self) -> int:
        return self._table.stat().st_size // RECORD.size

    def column(self, name: str) -> np.ndarray:
        """Return a column of the table, of shape (n_documents,)."""
        values = np.empty(len(self), TABLE[name])
        with open(self._table, "rb") as file:
            for start in range(0, len(values), RECORDS_AT_ONCE):
                # All columns of a few records at a time: of all, they would take five times the memory.
                records = np.fromfile(file, TABLE, min(RECORDS_AT_ONCE, len(values) - start))
                values[start : start + len(records)] = records[name]
        return values

    def read(self, start: int, stop: int) -> str:
        """Return the text from one byte to another."""
        return self._bytes(start, stop).decode("utf-8", "surrogatepass")

    def after_chars(self, start: int, n_chars: int) -> int:
        """Return the byte where `n_chars` characters from `start` on end."""
        while n_chars:
            block = np.frombuffer(self._bytes(start, start + BLOCK), np.uint8)
            assert len(block), "the text is shorter than that"
            begins = np.flatnonzero((block & 0xC0) != 0x80)  # the other bytes continue a character
            if len(begins) > n_chars:
                return start + int(begins[n_chars])
            n_chars -= len(begins)
            start += len(block)
        return self._character_at(start)  # after the rest of the last one

    def cut(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
        """Cut a text at seams into parts of `size` bytes and few more; yield where each begins and ends."""
        while stop - start > size:
            end = self._seam(start + size, stop)
            yield start, end
            start = end
        if start < stop:
            yield start, stop

    def _seam(self, start: int, stop: int) -> int:
        start = self._character_at(start)
        window = 1 << 10
        while True:
            block = self._bytes(start, min(stop, start + window))
            if start + len(block) < stop:  # a character must not be looked at in part
                block = block[: next(i for i in range(len(block) - 1, -1, -1) if block[i] & 0xC0 != 0x80)]
            text = block.decode("utf-8", "surrogatepass")
            if (place := find_seam(text, 1)) is not None:
                return start + len(text[:place].encode("utf-8", "surrogatepass"))
            if window >= stop - start:
                return stop
            if window >= LONGEST:
                return start
            window *= 16

    def _character_at(self, start: int) -> int:
        """Return the first place from `start` on where a character begins, or the file ends."""
        beginning = self._bytes(start, start + 4)
        return start + next((i for i, byte in enumerate(beginning) if byte & 0xC0 != 0x80), len(beginning))

    def _bytes(self, start: int, stop: int) -> bytes:
        blocks = []
        while start < stop and (block := os.pread(self._descriptor, min(stop - start, 1 << 30), start)):
            blocks.append(block)
            start += len(block)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files of a spool, in hex."""
    return {name: sha256(folder / name) for name in SPOOL_FILES}
