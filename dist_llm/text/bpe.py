"""Byte-level BPE: a token is a byte, or two tokens that often stand side by side merged into one.

Text is first cut into pieces, roughly words, and no token crosses a cut; so "dog", "dog." and "dog!" share a
token, and a piece need be encoded only once. Then the bytes of a piece are merged: of the pairs in it the one
that training found first (the lowest rank) becomes its token, and again, until no known pair is left.

The pieces are those of GPT-2 (Radford et al. 2019, Language Models are Unsupervised Multitask Learners) but
for one thing: its pattern asks for Unicode categories, the standard library knows only letters and decimal
digits, and so other numerals, as in "x²" or "½", go with the letters. BPE for text is from Sennrich et al.
2016, arXiv:1508.07909. How the merges are found is in bpe_training.py.
"""

import heapq
import re
from itertools import pairwise
from typing import Any, Self

import numpy as np

from dist_llm.text.tokenizer import Tokenizer

# Every character is a letter, a digit, a space or one of the others, so the pieces join to the text again.
# A word takes the one space before it along; of several the last goes with the word, the rest are a piece.
PIECE = re.compile(
    r"""'(?:[sdmt]|ll|ve|re)      # English endings: don't, we'll
      | [ ]?[^\W\d_]+             # letters
      | [ ]?\d+                   # digits
      | [ ]?(?:[^\s\w]|_)+        # the others: punctuation, signs, emoji, control characters
      | \s+(?!\S)                 # spaces, without the last if a word follows
      | \s+
    """,
    re.VERBOSE,
)

# The cache is emptied when full: frequent pieces are soon back, and no bookkeeping slows the look-ups.
CACHED_PIECES = 1 << 16
LONGEST_CACHED_PIECE = 64


class BPETokenizer(Tokenizer):
    """Ids 0 to 255 are the bytes, then come the merges in their order, and last the end of a text.

    Parameters
    ----------
    merges : list of (int, int)
        Ids of the two tokens that make token 256, 257, ...
    """

    kind = "bpe"

    def __init__(self, merges: list[tuple[int, int]]) -> None:
        tokens = [bytes([i]) for i in range(256)]
        for left, right in merges:
            if not (0 <= left < len(tokens) and 0 <= right < len(tokens)):
                raise ValueError(f"merge {(left, right)} uses a token that does not exist yet")
            tokens.append(tokens[left] + tokens[right])
        super().__init__([*tokens, b""], eot_id=len(tokens))
        self.merges = merges
        # The id of a merged token orders merges just as their ranks do.
        self._merged_id = {pair: 256 + rank for rank, pair in enumerate(merges)}
        if len(self._merged_id) < len(merges):
            raise ValueError("a pair is merged twice")
        self._cache: dict[str, bytes] = {}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild from the merges."""
        return cls([(left, right) for left, right in data["merges"]])

    def to_dict(self) -> dict[str, Any]:
        """Return the merges, which determine the vocabulary."""
        return super().to_dict() | {"merges": [list(pair) for pair in self.merges]}

    def _encode_ordinary(self, text: str) -> np.ndarray:
        cache = self._cache
        parts = []  # the ids of a piece as raw int32: joining bytes is far quicker than extending lists
        for match in PIECE.finditer(text):  # findall would hold all pieces of a huge text at once
            piece = match.group()
            ids = cache.get(piece)
            if ids is None:
                ids = np.array(self._encode_piece(piece), dtype=np.int32).tobytes()
                if len(piece) <= LONGEST_CACHED_PIECE:
                    if len(cache) >= CACHED_PIECES:
                        cache.clear()
                    cache[piece] = ids
            parts.append(ids)
        return np.frombuffer(bytearray().join(parts), dtype=np.int32)

    def _encode_piece(self, piece: str) -> list[int]:
        """Merge the bytes of one piece, lowest rank first and from the left, in O(n log n).

        A piece may be a megabyte without a space, so the pairs wait in a heap, and the tokens are a linked
        list over the positions of the bytes. A token that merged into its left neighbour leaves -1 behind.
        One more -1 ends the list on both sides: it comes after the last and, as ids[-1], before the first.
        """
        ids = [*piece.encode("utf-8", "surrogatepass"), -1]
        end = len(ids) - 1
        before = list(range(-1, end))
        after = list(range(1, end + 2))
        merged_id = self._merged_id
        heap = [(merged_id[pair], i) for i, pair in enumerate(pairwise(ids)) if pair in merged_id]
        heapq.heapify(heap)
        while heap:
            new, i = heapq.heappop(heap)
            j = after[i]
            if merged_id.get((ids[i], ids[j])) != new:
                continue  # an earlier merge took one of the two
            ids[i], ids[j] = new, -1
            after[i] = after[j]
            before[after[i]] = i
            for left, right in ((before[i], i), (i, after[i])):
                pair = (ids[left], ids[right])
                if pair in merged_id:
                    heapq.heappush(heap, (merged_id[pair], left))
        return [i for i in ids if i >= 0]
