"""Byte-level BPE as one would explain it: count every pair, merge the best everywhere, begin again.

It is hundreds of times slower than dist_llm.text, and the two must agree exactly.
"""

from collections import Counter
from itertools import pairwise

# Among ids of bytes, the one whose symbol comes first is the smaller: those of '!' to '~', of 161 to 172 and of 174 to
# 255 stand for themselves, and come before all others.
ORDER = [*range(33, 127), *range(161, 173), *range(174, 256)]
ORDER += [byte for byte in range(256) if byte not in ORDER]


def smallest(pair: tuple[int, int]) -> tuple[int, ...]:
    return tuple(ORDER.index(i) if i < 256 else i for i in pair)


def train(pieces: list[bytes], n_merges: int) -> list[tuple[int, int]]:
    """Return the merges of some pieces, repeats included; of equal counts the smallest pair of ids wins."""
    words = [list(piece) for piece in pieces]
    merges: list[tuple[int, int]] = []
    while len(merges) < n_merges:
        counts = Counter(pair for word in words for pair in pairwise(word))
        best = min(counts, key=lambda pair: (-counts[pair], smallest(pair)), default=None)
        if best is None or counts[best] < 2:
            break
        words = [merge(word, best, 256 + len(merges)) for word in words]
        merges.append(best)
    return merges


def encode(piece: bytes, merges: list[tuple[int, int]]) -> list[int]:
    """Apply every merge in order: the pair of lowest rank comes first, and a merge only makes higher ones."""
    ids = list(piece)
    for rank, pair in enumerate(merges):
        ids = merge(ids, pair, 256 + rank)
    return ids


def merge(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """Replace the pair from left to right."""
    merged: list[int] = []
    for i in ids:
        merged.append(i)
        if merged[-2:] == list(pair):
            merged[-2:] = [new]
    return merged
