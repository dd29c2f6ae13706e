"""Finding the merges of a byte-level BPE: join the most frequent pair of neighbours, and again.

Counting every pair after every merge would take hours. Three observations make it seconds:

- Text repeats itself: count each distinct piece once and work on the distinct pieces.
- A merge changes only the pieces that hold its pair: keep, for each pair, the pieces it was seen in.
- The count of a pair only ever falls, once the merge that made its tokens is done. So a heap gives the next
  pair: an entry that comes up with a count that is no longer true goes back with the present one.

And one trick makes it Python's own speed: while merges are sought, a piece is a string whose characters are ids, and
`str.split` by the two characters of a pair finds where they are to be merged.

The merges are those of Hugging Face's tokenizers, in the same order. Of equally frequent pairs the one with the
smallest ids is merged, where the ids of the bytes follow the printable characters that stand for them. Two merges may
make the same token (a bc, ab c). The plain version, which counts everything every time, is tests/oracles/bpe_plain.py.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any

import regex

from dist_llm.errors import UserError
from dist_llm.text.byte_level import PATTERNS, SYMBOLS
from dist_llm.text.seams import batches
from dist_llm.text.tokenizer import END_OF_TEXT

# More text would hardly change the merges, and a corpus of gigabytes must not take its time here.
TRAINING_CHARS = 100_000_000
# Pieces are counted in so many at a time, by whoever is free.
BATCH_CHARS = 1 << 22
# A pair seen once is not a pattern.
MIN_COUNT = 2

# The bytes in the order of their symbols, and by byte the place in that order: the ids while merges are sought.
BYTES = bytes(sorted(range(256), key=SYMBOLS.__getitem__))
PLACES = bytes(map(BYTES.index, range(256)))


def train_merges(
    texts: Iterable[str], vocab_size: int, run: Callable[..., Any] = map, pattern: str = PATTERNS["gpt2"]
) -> list[tuple[int, int]]:
    """Find the merges that make a vocabulary of a given size out of the bytes and END_OF_TEXT.

    Parameters
    ----------
    texts : iterable of str
        The text to learn from; its first TRAINING_CHARS characters are read.
    vocab_size : int
        At least 257.
    run : callable
        Like `map`; may work on several cores.
    pattern : str
        Regular expression that cuts text into pieces.

    Returns
    -------
    list of (int, int)
        The ids of each merge's two tokens. The bytes have the ids 0 to 255, what the merges make those from 256 on, in
        their order. Fewer than asked for if no pair is left that repeats.

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
    counted = count_pieces(texts, run, pattern)
    pieces = [piece.translate(PLACES).decode("latin-1") for piece in counted]
    counts = list(counted.values())
    pair_counts: defaultdict[str, int] = defaultdict(int)
    seen_in: defaultdict[str, set[int]] = defaultdict(set)  # pair -> places in `pieces`
    for i, (piece, count) in enumerate(zip(pieces, counts, strict=True)):
        for pair in map("".join, pairwise(piece)):
            pair_counts[pair] += count
            seen_in[pair].add(i)
    # A pair, and where it was seen when it came to be.
    heap = [(-pair_counts[pair], pair, where) for pair, where in seen_in.items()]
    heapq.heapify(heap)

    tokens = [bytes([byte]) for byte in BYTES]
    id_of = {token: i for i, token in enumerate(tokens)}
    merges: list[tuple[int, int]] = []
    while heap and len(tokens) < vocab_size - 1:
        negative_count, best, where_seen = heapq.heappop(heap)
        count = pair_counts[best]
        if count != -negative_count:
            heapq.heappush(heap, (-count, best, where_seen))
            continue
        if count < MIN_COUNT:
            break
        left, right = map(ord, best)
        token = tokens[left] + tokens[right]
        new = id_of.setdefault(token, len(tokens))
        if new == len(tokens):
            tokens.append(token)
        merges.append((left, right))
        created = _merge(best, chr(new), where_seen, pieces, counts, pair_counts)
        for pair, where in created.items():
            if pair_counts[pair] > 0:
                heapq.heappush(heap, (-pair_counts[pair], pair, where))
    return [tuple(BYTES[i] if i < 256 else i for i in pair) for pair in merges]  # type: ignore[misc]


def _merge(
    pair: str, new: str, where_seen: Iterable[int], pieces: list[str], counts: list[int], pair_counts: dict[str, int]
) -> dict[str, set[int]]:
    """Merge a pair in the pieces that have it, and count anew; return where pairs have come to be."""
    left, right = pair[0], pair[1]
    created: defaultdict[str, set[int]] = defaultdict(set)
    for where in where_seen:
        parts = pieces[where].split(pair)
        if len(parts) == 1:
            continue
        count = counts[where]
        pieces[where] = new.join(parts)
        before = parts[0][-1:]
        for part in parts[1:-1]:
            if before:
                pair_counts[before + left] -= count
                pair_counts[before + new] += count
                created[before + new].add(where)
            if part:
                pair_counts[right + part[0]] -= count
                pair_counts[new + part[0]] += count
                created[new + part[0]].add(where)
                before = part[-1]
            else:  # the next one follows at once: right left becomes new new
                pair_counts[right + left] -= count
                pair_counts[new + left] += count
                before = new
        if before:
            pair_counts[before + left] -= count
            pair_counts[before + new] += count
            created[before + new].add(where)
        if after := parts[-1][:1]:
            pair_counts[right + after] -= count
            pair_counts[new + after] += count
            created[new + after].add(where)
    return created


def count_pieces(
    texts: Iterable[str], run: Callable[..., Any] = map, pattern: str = PATTERNS["gpt2"]
) -> Counter[bytes]:
    """Count the pieces of the first TRAINING_CHARS characters, as UTF-8."""
    words: Counter[str] = Counter()
    for counted in run(partial(_count, pattern=pattern), batches(texts, BATCH_CHARS, TRAINING_CHARS)):
        words.update(counted)
    return Counter({word.encode("utf-8", "surrogatepass"): count for word, count in words.items()})


def _count(texts: Iterable[str], pattern: str) -> Counter[str]:
    words: Counter[str] = Counter()
    piece = regex.compile(pattern)
    for text in texts:
        words.update(piece.findall(text))
    return words
