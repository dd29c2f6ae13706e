"""Texts to token shards, on several cores.

The texts of a split are dealt out into units of about 16 MiB. A unit becomes one shard, written by whoever is free, so
the shards are the same however many processes there are, and one that is finished need not be made again.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dist_llm.data.progress import Progress
from dist_llm.data.shards import is_whole_shard, shard_path, write_shard
from dist_llm.data.split import Slices
from dist_llm.data.spool import Documents
from dist_llm.data.workers import Workers
from dist_llm.text import Tokenizer, load_tokenizer
from dist_llm.text.seams import parts

UNIT_BYTES = 1 << 24
PART_CHARS = 1 << 20  # encoded at once: a token on its way takes fifty bytes


class Piece(NamedTuple):
    """A text of a unit, or a part of a text that is longer than a unit.

    Attributes
    ----------
    start, stop : int
        Its bytes in the file of the spool.
    first, last : bool
        Whether the text begins with it, and ends.
    """

    start: int
    stop: int
    first: bool
    last: bool


class Unit(NamedTuple):
    """What becomes a shard.

    Attributes
    ----------
    spool : Path
        Folder of the spool.
    texts : list of Piece
    shard : Path
        Where its tokens go; the folder holds the tokenizer.
    fingerprint : str
        Fingerprint of the tokenizer.
    """

    spool: Path
    texts: list[Piece]
    shard: Path
    fingerprint: str

    @property
    def n_bytes(self) -> int:
        """Bytes of its texts."""
        return sum(piece.stop - piece.start for piece in self.texts)


def encode(
    folder: Path, split: str, texts: Slices, documents: Documents, tokenizer: Tokenizer, workers: Workers, shown: bool
) -> None:
    """Write the shards of a split.

    Parameters
    ----------
    folder : Path
        Holds the tokenizer; shards of it that are there already are kept.
    split : str
        ``"train"`` or ``"val"``: the first part of the file names.
    texts : Slices
        Each is followed by the end-of-text token, if the tokenizer has one.
    documents : Documents
        What the texts are slices of.
    tokenizer : Tokenizer
    workers : Workers
    shown : bool
        Show the progress on stderr.
    """
    total = int((texts.stops - texts.starts).sum())
    units = _units(folder, split, texts, documents, tokenizer.fingerprint)
    with Progress(f"encoding {split}", total, shown) as progress:
        for n_bytes in workers.map(write_unit, _missing(units, progress)):
            progress.add(n_bytes)


def write_unit(unit: Unit) -> int:
    """Encode a unit and write its shard; return its length in bytes."""
    tokenizer = _tokenizer(unit.shard.parent, unit.fingerprint)
    end = np.array([] if tokenizer.eot_id is None else [tokenizer.eot_id], np.int32)
    ids = []
    with Documents(unit.spool) as documents:
        for piece in unit.texts:
            first = piece.first
            for part in parts(documents.read(piece.start, piece.stop), PART_CHARS):
                ids.append(tokenizer.encode(part) if first else tokenizer.encode_rest(part))
                first = False
            if piece.last:
                ids.append(end)
    tokens = np.concatenate([end[:0], *ids])
    lengths = np.array([len(token) for token in tokenizer.token_bytes], np.int32)
    n_bytes = int(lengths[tokens].sum(dtype=np.int64))
    write_shard(unit.shard, tokens, n_bytes, tokenizer)
    return unit.n_bytes


def _units(folder: Path, split: str, texts: Slices, documents: Documents, fingerprint: str) -> Iterator[Unit]:
    pieces: list[Piece] = []
    held = number = 0
    for start, stop in texts:
        for left, right in documents.cut(start, stop, UNIT_BYTES):
            pieces.append(Piece(left, right, left == start, right == stop))
            held += right - left
            if held >= UNIT_BYTES:
                yield Unit(documents.folder, pieces, shard_path(folder, split, number), fingerprint)
                pieces, held = [], 0
                number += 1
    if pieces or not number:
        yield Unit(documents.folder, pieces, shard_path(folder, split, number), fingerprint)


def _missing(units: Iterator[Unit], progress: Progress) -> Iterator[Unit]:
    """Yield the units whose shards are not there yet."""
    for unit in units:
        if is_whole_shard(unit.shard, unit.fingerprint):
            progress.skip(unit.n_bytes)
        else:
            yield unit


@lru_cache(maxsize=1)
def _tokenizer(folder: Path, fingerprint: str) -> Tokenizer:
    """Return the tokenizer of a folder; what it remembers of one unit serves the next."""
    tokenizer = load_tokenizer(folder)
    assert tokenizer.fingerprint == fingerprint, "the tokenizer is another than that of the preparation"
    return tokenizer
