"""BPE over characters in the manner of SentencePiece (Kudo and Richardson 2018, arXiv 1808.06226), as in Llama 2.

A space is written as U+2581, one more is put before the text, and then characters are merged instead of bytes. What the
vocabulary has no character for is written byte by byte, in tokens called <0x00> to <0xFF>. Such a tokenizer is read
from a file; none is trained here.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from dist_llm.text.bpe import Merges, PieceCache
from dist_llm.text.tokenizer import Tokenizer, added_tokens, check_vocabulary, read_merges, table_size

SPACE = "\u2581"
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# Where no token holds a space behind another character, none crosses these cuts.
PIECE = re.compile(f"{SPACE}*[^{SPACE}]+|{SPACE}+")
NORMALIZERS = [
    {"type": "Prepend", "prepend": SPACE},
    {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
]


def is_byte(token: str) -> bool:
    """Whether a token of the vocabulary is a byte, such as <0x0A>."""
    return BYTE.fullmatch(token) is not None


class SentencePieceTokenizer(Tokenizer):
    """A vocabulary of strings, with bytes to fall back to, and the merges that lead to them.

    Parameters
    ----------
    tokens : list of str
        By their ids.
    merges : sequence of (int, int)
    special, added : mapping of str to int
        As for `BPETokenizer`.

    Attributes
    ----------
    tokens : list of str
    merged : list of int
        Id of what each merge makes.
    """

    kind: ClassVar[str] = "sentencepiece"

    def __init__(
        self, tokens: list[str], merges: Sequence[tuple[int, int]], special: Mapping[str, int], added: Mapping[str, int]
    ) -> None:
        ids = {token: i for i, token in enumerate(tokens)}
        names = set(special.values())
        token_bytes = []
        for i, token in enumerate(tokens):
            byte = BYTE.fullmatch(token)
            text = bytes([int(byte[1], 16)]) if byte else token.replace(SPACE, " ").encode("utf-8", "surrogatepass")
            token_bytes.append(b"" if i in names else text)
        super().__init__(token_bytes, special, added)
        self.tokens = tokens
        self._ids = {token: i for token, i in ids.items() if i not in names and not is_byte(token)}
        self._byte_ids = [ids[f"<0x{byte:02X}>"] for byte in range(256)]
        self.merged = [ids.get(tokens[left] + tokens[right], -1) for left, right in merges]
        self._merges = Merges(merges, self.merged)
        self._cut = not any(re.search(f"[^{SPACE}]{SPACE}", token) for token in self._ids)
        self._cache = PieceCache(self._encode_piece)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild from a tokenizer.json."""
        model = data["model"]
        if not model["byte_fallback"]:
            raise ValueError("a BPE of characters without byte_fallback is not supported")
        if model.get("ignore_merges") or data["pre_tokenizer"]:
            raise ValueError("a BPE of characters with a pre-tokenizer or ignore_merges is not supported")
        special, added = added_tokens(data)
        check_vocabulary(model["vocab"])
        vocab: dict[str, int] = model["vocab"] | special | added
        tokens = [""] * table_size(vocab.values())
        for token, i in vocab.items():
            tokens[i] = token
        tokenizer = cls(tokens, read_merges(model, vocab), special, added)
        tokenizer.document = data
        return tokenizer

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return the text of some tokens, without the space that `encode` has put before it."""
        return super().decode(ids).removeprefix(" ")

    def _pre_tokenizer(self) -> dict[str, Any]:
        raise NotImplementedError  # it is only ever read from a file, which `document` keeps

    _decoder = _model = _pre_tokenizer

    def _encode_ordinary(self, text: str) -> np.ndarray:
        return self._encode_written(SPACE + text.replace(" ", SPACE)) if text else np.zeros(0, np.int32)

    def encode_rest(self, text: str) -> np.ndarray:
        """Cut into tokens what follows in a text, before which no space is put."""
        # With added tokens, which a text is searched for first, the space before each part of it is theirs to say.
        return super().encode_rest(text) if self._added else self._encode_written(text.replace(" ", SPACE))

    def _encode_written(self, written: str) -> np.ndarray:
        pieces = PIECE.findall(written) if self._cut else [written]
        return np.frombuffer(bytearray().join(map(self._cache.__getitem__, pieces)), dtype=np.int32)

    def _encode_piece(self, piece: str) -> list[int]:
        ids: list[int] = []
        for character in piece:
            if (known := self._ids.get(character)) is not None:
                ids.append(known)
            else:
                ids += map(self._byte_ids.__getitem__, character.encode("utf-8", "surrogatepass"))
        return self._merges.apply(ids)
