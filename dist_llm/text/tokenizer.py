"""What every tokenizer promises: any text it can encode comes back from decode unchanged.

A token stands for some bytes of UTF-8, perhaps not a whole character, so decoding is joining bytes. Two kinds
of bytes need care. A Python string may hold lone surrogates (file names and JSON bring them in); strict UTF-8
has no form for these, so they are written as "surrogatepass" writes them. And a model may emit bytes that are
no UTF-8 at all; those are shown as U+FFFD, the replacement character.
"""

import codecs
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from dist_llm.errors import UserError

END_OF_TEXT = "<|endoftext|>"
FORMAT, VERSION = "dist_llm tokenizer", 1


def _surrogatepass_or_replace(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogatepass")(error)
    except UnicodeDecodeError as invalid:
        return "\ufffd", invalid.end


DECODE_ERRORS = "dist_llm.surrogatepass_or_replace"
codecs.register_error(DECODE_ERRORS, _surrogatepass_or_replace)


class Tokenizer(ABC):
    """A fixed vocabulary of byte strings, and a way to cut text into them.

    Attributes
    ----------
    kind : str
        The name it is chosen and saved by.
    token_bytes : list of bytes
        Bytes that each id adds to the text, for counting bits per byte; a special token adds b"".
    eot_id : int or None
        The special token END_OF_TEXT, which stands between documents; None if the vocabulary has none.
    """

    kind: ClassVar[str]

    def __init__(self, token_bytes: list[bytes], eot_id: int | None) -> None:
        self.token_bytes = token_bytes
        self.eot_id = eot_id

    @property
    def vocab_size(self) -> int:
        """Number of ids, specials included."""
        return len(self.token_bytes)

    def encode(self, text: str, allow_special: bool = False) -> np.ndarray:
        """Cut text into tokens.

        Parameters
        ----------
        text : str
            Anything; characters may be restricted by the kind of tokenizer.
        allow_special : bool
            Whether "<|endoftext|>" in the text means the special token. By default it is text like any other,
            so that a document cannot end itself.

        Returns
        -------
        ndarray of shape (n,), int32

        Raises
        ------
        UserError
            A character that the vocabulary lacks.
        """
        if not allow_special or self.eot_id is None:
            return self._encode_ordinary(text)
        first, *others = text.split(END_OF_TEXT)
        parts = [self._encode_ordinary(first)]
        for other in others:
            parts += [np.array([self.eot_id], dtype=np.int32), self._encode_ordinary(other)]
        return np.concatenate(parts)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return the text of some tokens; bytes that are not UTF-8 become U+FFFD.

        Raises
        ------
        UserError
            An id outside the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", DECODE_ERRORS)

    def decode_bytes(self, ids: Sequence[int] | np.ndarray) -> bytes:
        """Return the bytes that decode reads; unlike token_bytes they spell the special token out."""
        parts = []
        for i in map(int, ids):
            if not 0 <= i < self.vocab_size:
                raise UserError(
                    f"token {i} is outside this {self.kind} tokenizer's vocabulary of {self.vocab_size}: "
                    "decode with the tokenizer that made the tokens"
                )
            parts.append(END_OF_TEXT.encode() if i == self.eot_id else self.token_bytes[i])
        return b"".join(parts)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer's JSON, in hex: equal for two tokenizers that do the same."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return to_dict as one line of ASCII that depends on nothing but its content."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def to_dict(self) -> dict[str, Any]:
        """Return what from_dict needs, as plain JSON values."""
        return {"format": FORMAT, "version": VERSION, "kind": self.kind}

    @classmethod
    @abstractmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild a tokenizer from to_dict; a KeyError, TypeError or ValueError means damaged data."""

    @abstractmethod
    def _encode_ordinary(self, text: str) -> np.ndarray:
        """Encode text in which nothing is special, to int32."""


class StreamDecoder:
    """Decode a token at a time, holding bytes back until they make a whole character.

    The pieces of text together equal `Tokenizer.decode` of all the ids, and half an emoji never shows.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(DECODE_ERRORS)

    def push(self, token: int) -> str:
        """Take the next token and return the text that has become complete, perhaps none."""
        return self._utf8.decode(self._tokenizer.decode_bytes([token]))

    def flush(self) -> str:
        """Return the text of an unfinished last character, and start afresh."""
        return self._utf8.decode(b"", final=True)


def printable(text: str) -> str:
    """Return the text with what could move a terminal's cursor, or worse, replaced by U+FFFD."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
