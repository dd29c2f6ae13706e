"""The split into training and validation text, and the weights of the sources.

The validation loss says something about new text only if none of it was trained on. Hence duplicates go
first, and documents are held out whole. Which ones is decided by a hash of their text: another order of the
same documents holds out the same ones, and a new document moves others only near the border.

The plain version, of a list of texts, is tests/oracles/split_plain.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from dist_llm.data.spool import Documents


@dataclass(frozen=True)
class Slices:
    """Texts, each of them a slice of a spool.

    Attributes
    ----------
    which : ndarray of int64, shape (n,)
        The document that each is of, wholly or in part.
    starts, stops : ndarray of uint64, shape (n,)
        Where they begin and end in the file, in bytes.
    n_chars : int
        Characters of all together.
    """

    which: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    n_chars: int

    def __len__(self) -> int:
        return len(self.which)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield where each begins and ends."""
        for at in range(0, len(self), 1 << 16):  # all at once would be millions of Python's numbers
            block = slice(at, at + (1 << 16))
            yield from zip(self.starts[block].tolist(), self.stops[block].tolist(), strict=True)


def split(documents: Documents, val_fraction: float) -> tuple[Slices, Slices]:
    """Hold out an exact fraction of the characters.

    Documents go to validation in the order of the SHA-256 of their text. The one on the border is cut: its
    head is trained on, its tail validated. A corpus of one document is thus cut once.

    Parameters
    ----------
    documents : Documents
        Of those that differ at most in white space around them, only the first stays.
    val_fraction : float
        Fraction of the characters for validation, in [0, 1).

    Returns
    -------
    train, val : Slices
        Each in the original order. With n characters left after dropping duplicates, train has
        ``floor(n * (1 - val_fraction))`` of them.
    """
    by_hash = _distinct(documents)
    n_chars = documents.column("n_chars")[by_hash].astype(np.int64)
    total = int(n_chars.sum())
    # In binary 1 - 0.9 is a little less than 0.1, and that fraction of ten characters would round down to none;
    # the fraction of the decimal digits that the user wrote is exact.
    wanted = total - int(total * (1 - Fraction(str(val_fraction))))
    taken = np.cumsum(n_chars)
    n_whole = int(np.searchsorted(taken, wanted, side="right"))
    rest = wanted - (int(taken[n_whole - 1]) if n_whole else 0)  # of the document on the border
    border = int(by_hash[n_whole]) if rest else -1
    head_chars = int(n_chars[n_whole]) - rest if rest else 0
    del n_chars, taken

    val, train = np.sort(by_hash[: n_whole + bool(rest)]), np.sort(by_hash[n_whole:])
    del by_hash
    starts = documents.column("start")
    stops = starts + documents.column("n_bytes")
    cut = documents.after_chars(int(starts[border]), head_chars) if rest else 0
    train_stops, val_starts = stops[train], starts[val]
    train_stops[train == border] = cut
    val_starts[val == border] = cut
    return (
        Slices(train, starts[train], train_stops, total - wanted),
        Slices(val, val_starts, stops[val], wanted),
    )


def _distinct(documents: Documents) -> np.ndarray:
    """Return the documents that are no copies of earlier ones, in the order of their hashes."""
    high, low = documents.column("high"), documents.column("low")
    order = np.lexsort((low, high))  # equal ones stay in their order
    is_copy = (high[order[1:]] == high[order[:-1]]) & (low[order[1:]] == low[order[:-1]])
    first: np.ndarray = order[np.concatenate([np.ones(min(1, len(order)), bool), ~is_copy])]
    return first


def shuffled(slices: Slices, documents: Documents) -> Slices:
    """Return texts in the order of the second half of their hashes, in which those of all sources are mixed."""
    order = np.argsort(documents.column("low")[slices.which], kind="stable")
    return Slices(slices.which[order], slices.starts[order], slices.stops[order], slices.n_chars)


def weighted(train: Slices, documents: Documents, weights: Sequence[float]) -> Slices:
    """Repeat or leave out training texts by the weights of their sources.

    Parameters
    ----------
    train : Slices
    documents : Documents
    weights : sequence of float
        How often each text of a source shall be there. With 2.5 all of them are there twice, and half of them a third
        time; with 0.1 a tenth is there. Which ones is decided by their hash.

    Returns
    -------
    Slices
        Round by round, each in the original order.
    """
    if all(weight == 1 for weight in weights):
        return train
    wanted = np.array(weights)[documents.column("source")[train.which]]
    # The split goes by the other half of the hash. A float has 53 bits: with more, a draw might be rounded to 1.
    draw = (documents.column("low")[train.which] >> np.uint64(11)) / 2.0**53
    rounds = [np.flatnonzero(done + draw < wanted) for done in range(int(np.ceil(max(weights))))]
    chosen = np.concatenate(rounds)
    # Of a document on the border only the head is trained on, so its characters are counted.
    starts, stops = train.starts[chosen], train.stops[chosen]
    n_chars = documents.column("n_chars").astype(np.int64)[train.which]
    whole = (train.stops - train.starts) == documents.column("n_bytes")[train.which]
    n_chars[~whole] = train.n_chars - int(n_chars[whole].sum())  # at most one
    return Slices(train.which[chosen], starts, stops, int(n_chars[chosen].sum()))
