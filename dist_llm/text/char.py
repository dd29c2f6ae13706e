"""A token is a character of the training text: a small vocabulary, readable tokens, and no others allowed.

There is no special token, since every id is a character; tiny Shakespeare gives the well-known 65.
To Hugging Face it is a vocabulary of words, each of them a character.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any, Self

import numpy as np

from dist_llm.errors import UserError
from dist_llm.text.seams import batches
from dist_llm.text.tokenizer import Tokenizer

ANY_CHARACTER = r"[\s\S]"
BATCH_CHARS = 1 << 22  # looked through at a time


class CharTokenizer(Tokenizer):
    """The id of a character is its place in the sorted alphabet.

    Parameters
    ----------
    alphabet : list of str
        Distinct single characters in the order of their code points.
    """

    kind = "char"

    def __init__(self, alphabet: list[str]) -> None:
        if not alphabet or alphabet != sorted(set(alphabet)) or any(len(c) != 1 for c in alphabet):
            raise ValueError("the alphabet must be a sorted list of distinct characters, at least one")
        super().__init__([c.encode("utf-8", "surrogatepass") for c in alphabet], {})
        self.alphabet = alphabet
        self._code_points = np.array([ord(c) for c in alphabet], dtype=np.uint32)  # (V,)

    @classmethod
    def train(cls, texts: Iterable[str], run: Callable[..., Any] = map) -> Self:
        """Take the alphabet of some texts; `run` is like `map`, and may work on several cores."""
        characters: set[str] = set()
        for seen in run(_characters, batches(texts, BATCH_CHARS, sys.maxsize)):
            characters |= seen
        alphabet = sorted(characters)
        if not alphabet:
            raise UserError("a char tokenizer needs text to take its characters from, and the text is empty")
        return cls(alphabet)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild from the alphabet."""
        vocab: dict[str, int] = data["model"]["vocab"]
        alphabet = sorted(vocab)
        if vocab != {character: i for i, character in enumerate(alphabet)}:
            raise ValueError("the ids are not the places in the sorted alphabet")
        return cls(alphabet)

    def _pre_tokenizer(self) -> dict[str, Any]:
        return {"type": "Split", "pattern": {"Regex": ANY_CHARACTER}, "behavior": "Isolated", "invert": False}

    def _decoder(self) -> dict[str, Any]:
        return {"type": "Fuse"}

    def _model(self) -> dict[str, Any]:
        vocab = {character: i for i, character in enumerate(self.alphabet)}
        # The unknown token is none of them: what the alphabet lacks is an error there as here, and not left out.
        return {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}

    def _encode_ordinary(self, text: str) -> np.ndarray:
        # UTF-32 is an array of code points, and the alphabet is sorted: one binary search encodes them all.
        code_points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")  # (n,)
        ids = np.searchsorted(self._code_points, code_points).astype(np.int32)  # (n,)
        unknown = self._code_points[np.minimum(ids, self.vocab_size - 1)] != code_points
        if unknown.any():
            first = text[int(unknown.argmax())]
            raise UserError(
                f"the character {first!r} (U+{ord(first):04X}) is not among the {self.vocab_size} of this "
                "char tokenizer: leave it out, train on text that has it, or use data.tokenizer=bpe or byte"
            )
        return ids


def _characters(texts: Iterable[str]) -> set[str]:
    return set().union(*texts)
