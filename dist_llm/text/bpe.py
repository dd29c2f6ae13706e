"""Byte-level BPE: a token is a byte, or two tokens that often stand side by side merged into one.

Text is first cut into pieces, roughly words, and no token crosses a cut; so "dog", "dog." and "dog!" share a
token, and a piece need be encoded only once. Then the bytes of a piece are merged: of the pairs in it the one
that training found first (the lowest rank) becomes its token, and again, until no known pair is left.

BPE for text is from Sennrich et al. 2016, arXiv:1508.07909; of bytes, and with the pattern that cuts, from GPT-2
(Radford et al. 2019). How the merges are found is in bpe_training.py.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
import regex

from dist_llm.errors import UserError
from dist_llm.text.byte_level import PATTERNS, byte_level, byte_level_bpe, from_symbols, read_patterns, to_symbols
from dist_llm.text.tokenizer import (
    END_OF_TEXT,
    Tokenizer,
    added_tokens,
    check_vocabulary,
    read_merges,
    table_size,
)

CACHED_PIECES = 1 << 17
LONGEST_CACHED_PIECE = 64
SHORT_PIECE = 32  # tokens, in which looking at every pair each time is the fastest
MOST_BYTES = 1 << 25  # of all tokens together
LEAST_S, S_PER_CHAR = 10, 2e-5  # what a pattern may take; those in use take a hundredth
FOUND_AT_ONCE = 1 << 22  # characters; of a longer text the pieces would take too much memory together


class Merges:
    """Merges by their ranks, and their application.

    Parameters
    ----------
    pairs : sequence of (int, int)
        Ids of two tokens, the pair of lowest rank first.
    made : sequence of int
        Id of what each makes; -1 if that is no token.

    Raises
    ------
    ValueError
        A merge makes no token, or a pair is merged twice.
    """

    def __init__(self, pairs: Sequence[tuple[int, int]], made: Sequence[int]) -> None:
        self._ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self._made: list[int] = []
        if len(self._ranks) < len(pairs):
            raise ValueError("a pair is merged twice")
        for pair, new in zip(pairs, made, strict=True):
            if new < 0:
                raise ValueError(f"what the merge {pair} makes is not in the vocabulary")
            self._made.append(new)

    def apply(self, ids: list[int]) -> list[int]:
        """Merge the tokens of one piece, lowest rank first and from the left, in O(n log n).

        A piece may be a megabyte without a space, so the pairs wait in a heap, and the tokens are a linked
        list over their positions. A token that merged into its left neighbour leaves -1 behind.
        One more -1 ends the list on both sides: it comes after the last and, as ids[-1], before the first.
        """
        if len(ids) <= SHORT_PIECE:
            return self._apply_to_few(ids)
        ids = [*ids, -1]
        end = len(ids) - 1
        before = list(range(-1, end))
        after = list(range(1, end + 2))
        ranks, made = self._ranks, self._made
        heap = [(ranks[pair], i) for i, pair in enumerate(pairwise(ids)) if pair in ranks]
        heapq.heapify(heap)
        while heap:
            rank, i = heapq.heappop(heap)
            j = after[i]
            now = ranks.get((ids[i], ids[j]))
            if now is None or made[now] != made[rank]:
                continue  # an earlier merge took one of the two
            ids[i], ids[j] = made[rank], -1
            after[i] = after[j]
            before[after[i]] = i
            for left, right in ((before[i], i), (i, after[i])):
                pair = (ids[left], ids[right])
                if pair in ranks:
                    heapq.heappush(heap, (ranks[pair], left))
        return [i for i in ids if i >= 0]

    def _apply_to_few(self, ids: list[int]) -> list[int]:
        known, made, none = self._ranks.get, self._made, len(self._made)
        ranks = [known(pair, none) for pair in pairwise(ids)]
        while ranks and (lowest := min(ranks)) < none:
            i = ranks.index(lowest)
            ids[i : i + 2] = [made[lowest]]
            del ranks[i]
            if i > 0:
                ranks[i - 1] = known((ids[i - 1], ids[i]), none)
            if i < len(ranks):
                ranks[i] = known((ids[i], ids[i + 1]), none)
        return ids


class PieceCache(dict[str, bytes]):
    """The ids of pieces, as raw int32, computed when they are missing.

    Joining bytes is far quicker than extending lists. When it is half full the older half is forgotten, but for what
    has been asked for since: frequent pieces stay, and no bookkeeping slows the look-ups.

    Parameters
    ----------
    encode : callable
        Returns the ids of a piece.
    """

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        super().__init__()
        self._encode = encode
        self._older: dict[str, bytes] = {}

    def __missing__(self, piece: str) -> bytes:
        ids = self._older.get(piece)
        if ids is None:
            ids = np.array(self._encode(piece), dtype=np.int32).tobytes()
        if len(piece) <= LONGEST_CACHED_PIECE:
            if len(self) >= CACHED_PIECES // 2:
                self._older = dict(self)
                self.clear()
            self[piece] = ids
        return ids


class BPETokenizer(Tokenizer):
    """A vocabulary of byte strings, and the merges that lead to them.

    Parameters
    ----------
    token_bytes : list of bytes
        By their ids, all 256 single bytes among them; empty where an id is that of a special token.
    merges : sequence of (int, int)
        Ids of two tokens which together make another of the vocabulary; the first merge has the lowest rank.
    special : mapping of str to int
        Special tokens.
    patterns : sequence of str
        Regular expressions that cut text into pieces, each what the one before has left whole.
    ignore_merges : bool
        Whether a piece that is in the vocabulary is its token whatever the merges make of it (as in Llama 3).
    added : mapping of str to int
        Other tokens that are found in any text before it is cut.

    Raises
    ------
    ValueError
        A byte, or what a merge makes, is not in the vocabulary, or a pair is merged twice.
    """

    kind = "bpe"

    def __init__(
        self,
        token_bytes: list[bytes],
        merges: Sequence[tuple[int, int]],
        special: Mapping[str, int],
        patterns: Sequence[str] = (PATTERNS["gpt2"],),
        ignore_merges: bool = False,
        added: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(token_bytes, special, added)
        self.merges, self.patterns, self.ignore_merges = list(merges), tuple(patterns), ignore_merges
        ids = {token: i for i, token in enumerate(token_bytes) if token}
        for byte in range(256):
            if bytes([byte]) not in ids:
                raise ValueError(f"the byte {byte} is not in the vocabulary")
        self._id_of_byte = [ids[bytes([byte])] for byte in range(256)]
        self._whole = ids if ignore_merges else {}
        for left, right in self.merges:
            if not (0 <= left < len(token_bytes) and 0 <= right < len(token_bytes)):
                raise ValueError(f"merge {(left, right)} uses a token that does not exist")
        self._merges = Merges(
            self.merges, [ids.get(token_bytes[left] + token_bytes[right], -1) for left, right in self.merges]
        )
        self._patterns = [regex.compile(pattern) for pattern in self.patterns]
        self._cache = PieceCache(self._encode_piece)

    @classmethod
    def of_merges(cls, merges: Sequence[tuple[int, int]], pattern: str = PATTERNS["gpt2"]) -> Self:
        """Return the tokenizer whose ids 0 to 255 are the bytes, then what the merges make, last the end of a text.

        Raises
        ------
        ValueError
            A merge uses what does not exist, or the tokens are out of all proportion: each merge may double a token.
        """
        tokens = [bytes([i]) for i in range(256)]
        known = set(tokens)
        n_bytes = 0
        for left, right in merges:
            if not (0 <= left < len(tokens) and 0 <= right < len(tokens)):
                raise ValueError(f"merge {(left, right)} uses a token that does not exist yet")
            n_bytes += len(tokens[left]) + len(tokens[right])
            if n_bytes > MOST_BYTES:
                raise ValueError(f"its tokens have more than {MOST_BYTES:,} bytes together")
            if (token := tokens[left] + tokens[right]) not in known:  # two merges may make the same
                known.add(token)
                tokens.append(token)
        return cls([*tokens, b""], merges, {END_OF_TEXT: len(tokens)}, (pattern,))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild from a tokenizer.json of a byte-level BPE, ours or another's."""
        model = data["model"]
        for key in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"):
            if model.get(key):
                raise ValueError(f"a BPE with {key} is not supported")
        special, added = added_tokens(data)
        names = {i: content for content, i in (special | added).items()}
        vocab: dict[str, int] = model["vocab"]
        check_vocabulary(vocab)
        token_bytes = [b""] * table_size([*vocab.values(), *names])
        for symbols, i in vocab.items():
            if i not in names:
                token_bytes[i] = from_symbols(symbols)
        for content, i in added.items():
            token_bytes[i] = content.encode()
        return cls(
            token_bytes, read_merges(model, vocab), special, read_patterns(data),
            model.get("ignore_merges", False), added,
        )  # fmt: skip

    def _pre_tokenizer(self) -> dict[str, Any]:
        if self.patterns == (PATTERNS["gpt2"],):
            return byte_level()
        cuts = [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
            for pattern in self.patterns
        ]
        return {"type": "Sequence", "pretokenizers": [*cuts, byte_level(use_regex=False)]}

    def _decoder(self) -> dict[str, Any]:
        return byte_level()

    def _model(self) -> dict[str, Any]:
        symbols = [to_symbols(token) for token in self.token_bytes]
        vocab = {symbol: i for i, symbol in enumerate(symbols) if symbol}
        merges = [(symbols[left], symbols[right]) for left, right in self.merges]
        return byte_level_bpe(vocab, merges) | {"ignore_merges": self.ignore_merges}

    def pieces(self, text: str) -> Iterable[str]:
        """Cut text into pieces, which joined are the text again."""
        if len(self._patterns) != 1 or self.patterns[0] not in PATTERNS.values():
            return _cut(text, self._patterns)
        if len(text) <= FOUND_AT_ONCE:
            found: list[str] = self._patterns[0].findall(text)
            return found
        return (match.group() for match in self._patterns[0].finditer(text))

    def _encode_ordinary(self, text: str) -> np.ndarray:
        return np.frombuffer(bytearray().join(map(self._cache.__getitem__, self.pieces(text))), dtype=np.int32)

    def _encode_piece(self, piece: str) -> list[int]:
        utf8 = piece.encode("utf-8", "surrogatepass")
        if utf8 in self._whole:
            return [self._whole[utf8]]
        return self._merges.apply([self._id_of_byte[byte] for byte in utf8])


def _cut(text: str, patterns: Sequence["regex.Pattern[str]"]) -> Iterator[str]:
    """Cut by the first pattern, where it matches and in between, and what that leaves by the others."""
    if not patterns:
        yield text
        return
    end = 0
    for match in _matches(patterns[0], text):
        if match.start() > end:
            yield from _cut(text[end : match.start()], patterns[1:])
        if match.group():
            yield from _cut(match.group(), patterns[1:])
        end = match.end()
    if end < len(text):
        yield from _cut(text[end:], patterns[1:])


def _matches(pattern: "regex.Pattern[str]", text: str) -> Iterator["regex.Match[str]"]:
    """Yield where a pattern matches; one that comes in a file may take for ever, or all memory."""
    try:
        yield from pattern.finditer(text, timeout=LEAST_S + S_PER_CHAR * len(text))
    except (TimeoutError, MemoryError) as error:
        raise UserError(
            f"the pattern {pattern.pattern[:80]!r}, by which this tokenizer cuts text, takes too long: use another one"
        ) from error
