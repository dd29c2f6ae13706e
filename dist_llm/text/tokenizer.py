"""What every tokenizer promises: any text it can encode comes back from decode unchanged.

A token stands for some bytes of UTF-8, perhaps not a whole character, so decoding is joining bytes. Two kinds
of bytes need care. A Python string may hold lone surrogates (file names and JSON bring them in); strict UTF-8
has no form for these, so they are written as "surrogatepass" writes them. And a model may emit bytes that are
no UTF-8 at all; those are shown as U+FFFD, the replacement character.
"""

import codecs
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from dist_llm.errors import UserError

END_OF_TEXT = "<|endoftext|>"
MOST_ADDED = 1 << 12  # added tokens: DeepSeek-V3 has 818


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
        The name it is chosen by.
    token_bytes : list of bytes
        Bytes that each id adds to the text, for counting bits per byte; a special token adds b"".
    special : dict of str to int
        The special tokens.
    end_of_text : str or None
        The special token that stands between documents: END_OF_TEXT, unless another's tokenizer has its own; None if
        there is none.
    begin_of_text : str or None
        The special token that another's tokenizer puts before a prompt; None if it does not.
    document : dict or None
        The content of the tokenizer.json it was read from, where that says more than `to_dict` would.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        token_bytes: list[bytes],
        special: Mapping[str, int],
        added: Mapping[str, int] | None = None,
    ) -> None:
        self.token_bytes = token_bytes
        self.special = dict(special)
        self.end_of_text = END_OF_TEXT if END_OF_TEXT in special else None
        self.begin_of_text: str | None = None
        self.document: dict[str, Any] | None = None
        self._added = dict(added or {})
        self._names = {i: name for name, i in self.special.items()}

    @property
    def vocab_size(self) -> int:
        """Number of ids, specials included."""
        return len(self.token_bytes)

    @property
    def eot_id(self) -> int | None:
        """Id of `end_of_text`."""
        return None if self.end_of_text is None else self.special[self.end_of_text]

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
        known = self._added | self.special if allow_special else self._added
        if not known:
            return self._encode_ordinary(text)
        longest_first = sorted(known, key=len, reverse=True)
        # The odd parts are what the group has matched.
        parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
        for i, part in enumerate(parts):
            parts[i] = np.array([known[part]], np.int32) if i % 2 else self._encode_ordinary(part)
        return np.concatenate(parts)

    def encode_rest(self, text: str) -> np.ndarray:
        """Cut into tokens what follows in a text that was cut at a seam (see seams.py)."""
        return self.encode(text)

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
            parts.append(self._names[i].encode() if i in self._names else self.token_bytes[i])
        return b"".join(parts)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer's JSON, in hex: equal for two tokenizers that do the same."""
        end = "" if self.end_of_text in (None, END_OF_TEXT) else self.end_of_text  # which the JSON does not tell
        return hashlib.sha256(f"{self.to_json()}{end}".encode()).hexdigest()

    def to_json(self) -> str:
        """Return to_dict as one line of ASCII that depends on nothing but its content."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of tokenizer.json, as Hugging Face's tokenizers reads it: plain JSON values."""
        if self.document is not None:
            return self.document
        as_it_is = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        added = [
            {"id": i, "content": content, "special": content in self.special} | as_it_is
            for content, i in (self.special | self._added).items()
        ]
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": self._pre_tokenizer(),
            "post_processor": None,
            "decoder": self._decoder(),
            "model": self._model(),
        }

    @abstractmethod
    def _pre_tokenizer(self) -> dict[str, Any]:
        """Return how text is cut into pieces, in Hugging Face's terms."""

    @abstractmethod
    def _decoder(self) -> dict[str, Any]:
        """Return how tokens become text."""

    @abstractmethod
    def _model(self) -> dict[str, Any]:
        """Return how a piece becomes tokens."""

    @classmethod
    @abstractmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild a tokenizer from to_dict; a KeyError, TypeError or ValueError means damaged data."""

    @abstractmethod
    def _encode_ordinary(self, text: str) -> np.ndarray:
        """Encode text in which nothing is special, to int32."""


def added_tokens(data: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the ids of the special and of the other added tokens that a tokenizer.json names.

    Raises
    ------
    ValueError
        One is no token, or there are so many that each text would be searched for them for ever.
    """
    if len(data["added_tokens"]) > MOST_ADDED:
        raise ValueError(f"{len(data['added_tokens'])} added tokens are more than {MOST_ADDED}")
    special: dict[str, int] = {}
    added: dict[str, int] = {}
    for token in data["added_tokens"]:
        content, i, is_special = token["content"], token["id"], token["special"]
        if not (isinstance(content, str) and content and type(i) is int and isinstance(is_special, bool)):
            raise ValueError(f"the added token {i} is damaged")
        content.encode()  # half of a surrogate pair is no text
        (special if is_special else added)[content] = i
    return special, added


def table_size(ids: Collection[int]) -> int:
    """Return how long a table by id must be.

    Raises
    ------
    ValueError
        An id is none, or out of all proportion: the table would take whatever memory a damaged file asks for.
    """
    size = 1 + max(ids)
    if size > 2 * len(ids):
        raise ValueError(f"an id is {size - 1}, and there are {len(ids)} tokens")
    if any(type(i) is not int for i in ids) or min(ids) < 0:
        raise ValueError("an id is not a whole number")
    return size


def check_vocabulary(vocab: Mapping[str, int]) -> None:
    """Check that no two tokens have the same id.

    Raises
    ------
    ValueError
    """
    if len(set(vocab.values())) < len(vocab):
        raise ValueError("two tokens have the same id")


def read_merges(model: Mapping[str, Any], vocab: Mapping[str, int]) -> list[tuple[int, int]]:
    """Return the ids of each merge's two tokens; a tokenizer.json writes them as a pair, or with a space between."""
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    return [(vocab[left], vocab[right]) for left, right in pairs]


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
