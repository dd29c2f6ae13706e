"""Finding the merges of a byte-level BPE: join the most frequent pair of neighbours, and again.

Counting every pair after every merge would take hours. Three observations make it seconds:

- Text repeats itself: count each distinct piece once and work on the distinct pieces.
- A merge changes only the pieces that hold its pair: keep, for each pair, the pieces it was seen in.
- The count of a pair only ever falls, once the merge that made its tokens is done. So a heap gives the next
  pair: an entry that comes up with a count that is no longer true goes back with the present one.

Of equally frequent pairs the one with the smallest ids is merged, so the text alone determines the result.
The plain version, which counts everything every time, is the reference in tests/oracles/bpe_plain.py.
"""

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

from dist_llm.errors import UserError
from dist_llm.text.bpe import PIECE
from dist_llm.text.tokenizer import END_OF_TEXT

# More text would hardly change the merges, and a corpus of gigabytes must not take its time here.
TRAINING_CHARS = 20_000_000
# A pair seen once is not a pattern.
MIN_COUNT = 2
# What is longer is no word but, say, base64, or a sentence of a script without spaces. It is trained on in cuts: a
# merge rewrites whole pieces, and a text without spaces would take many times as long.
LONGEST_PIECE_BYTES = 64


def train_merges(texts: Iterable[str], vocab_size: int) -> list[tuple[int, int]]:
    """Find the merges that make a vocabulary of a given size out of the bytes and END_OF_TEXT.

    Parameters
    ----------
    texts : iterable of str
        The text to learn from; its first TRAINING_CHARS characters are read.
    vocab_size : int
        At least 257.

    Returns
    -------
    list of (int, int)
        The ids that make token 256, 257, ...; fewer than asked for if no pair is left that repeats.

    Raises
    ------
    UserError
        The vocabulary has no room for the 256 bytes and the special token.
    """
    if vocab_size < 257:
        raise UserError(
            f"data.vocab_size={vocab_size} is too small for a bpe tokenizer: "
            f"the 256 bytes and {END_OF_TEXT} need at least 257"
        )
    counted = count_pieces(texts)
    pieces = [list(piece) for piece in counted]
    counts = list(counted.values())
    pair_counts: defaultdict[tuple[int, int], int] = defaultdict(int)
    seen_in: defaultdict[tuple[int, int], set[int]] = defaultdict(set)  # pair -> places in `pieces`
    for where, (piece, count) in enumerate(zip(pieces, counts, strict=True)):
        for pair in pairwise(piece):
            pair_counts[pair] += count
            seen_in[pair].add(where)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)

    merges: list[tuple[int, int]] = []
    while heap and len(merges) < vocab_size - 257:
        negative_count, best = heapq.heappop(heap)
        count = pair_counts[best]
        if count < MIN_COUNT:
            continue
        if count < -negative_count:
            heapq.heappush(heap, (-count, best))
            continue
        new = 256 + len(merges)
        merges.append(best)
        created = set()
        for where in seen_in.pop(best):
            old_piece, count = pieces[where], counts[where]
            pieces[where] = piece = merge_pair(old_piece, best, new)
            for pair in pairwise(old_piece):
                pair_counts[pair] -= count
            for pair in pairwise(piece):
                pair_counts[pair] += count
                if new in pair:
                    created.add(pair)
                    seen_in[pair].add(where)
        for pair in created:
            heapq.heappush(heap, (-pair_counts[pair], pair))
    return merges


def count_pieces(texts: Iterable[str]) -> Counter[bytes]:
    """Count the pieces of the first TRAINING_CHARS characters, as UTF-8."""
    words: Counter[str] = Counter()
    chars_left = TRAINING_CHARS
    for text in texts:
        words.update(map(re.Match.group, PIECE.finditer(text, 0, chars_left)))
        chars_left = max(0, chars_left - len(text))
    pieces: Counter[bytes] = Counter()
    for word, count in words.items():
        utf8 = word.encode("utf-8", "surrogatepass")
        for start in range(0, len(utf8), LONGEST_PIECE_BYTES):
            pieces[utf8[start : start + LONGEST_PIECE_BYTES]] += count
    return pieces


def merge_pair(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """Return ids with every occurrence of pair replaced by new, from the left."""
    left, right = pair
    merged: list[int] = []
    i = 0
    while i < len(ids):
        if ids[i] == left and i + 1 < len(ids) and ids[i + 1] == right:
            merged.append(new)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged
