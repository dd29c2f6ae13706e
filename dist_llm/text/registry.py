"""The tokenizers by name: train one, write it to a file, read it back.

The file is the tokenizer's JSON and nothing else, so its `sha256sum` is the fingerprint.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dist_llm.errors import UserError
from dist_llm.text.bpe import BPETokenizer
from dist_llm.text.bpe_training import train_merges
from dist_llm.text.byte import ByteTokenizer
from dist_llm.text.char import CharTokenizer
from dist_llm.text.tokenizer import FORMAT, VERSION, Tokenizer

TOKENIZERS: dict[str, type[Tokenizer]] = {t.kind: t for t in (ByteTokenizer, CharTokenizer, BPETokenizer)}


def train_tokenizer(kind: str, texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """Make a tokenizer for some texts.

    Parameters
    ----------
    kind : str
        "byte", "char" or "bpe".
    texts : sequence of str
        The documents; "byte" does not look at them.
    vocab_size : int
        For "bpe"; the others' size follows from what they are.

    Raises
    ------
    UserError
        An unknown kind, no text to learn from, or a vocabulary that is too small.
    """
    if kind == "byte":
        return ByteTokenizer()
    if kind == "char":
        return CharTokenizer.train(texts)
    if kind == "bpe":
        return BPETokenizer(train_merges(texts, vocab_size))
    raise UserError(f"unknown tokenizer {kind!r}: data.tokenizer is one of {', '.join(TOKENIZERS)}")


def save_tokenizer(tokenizer: Tokenizer, path: str | Path) -> None:
    """Write a tokenizer to a JSON file."""
    Path(path).write_bytes(tokenizer.to_json().encode("ascii"))


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a tokenizer that save_tokenizer wrote.

    Raises
    ------
    UserError
        The file is missing, damaged or of another format; the message names it.
    """
    try:
        data = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read the tokenizer {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"the tokenizer {path} is damaged (not JSON: {error}); make it again") from error
    try:
        return tokenizer_from_dict(data)
    except UserError as error:
        raise UserError(f"cannot use the tokenizer {path}: {error}") from error


def tokenizer_from_dict(data: Any) -> Tokenizer:
    """Rebuild a tokenizer of any kind from its `to_dict`.

    Raises
    ------
    UserError
        Another format, a version or kind this program does not know, or damaged content.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UserError(f'it does not say "format": "{FORMAT}"; name a file that dist_llm wrote')
    if data.get("version") != VERSION:
        raise UserError(f"it has version {data.get('version')} and this dist_llm reads {VERSION}; make it again")
    kind = str(data.get("kind"))
    if kind not in TOKENIZERS:
        raise UserError(f"its kind {kind} is not one of {', '.join(TOKENIZERS)}; make it again")
    try:
        return TOKENIZERS[kind].from_dict(data)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"its content is damaged ({type(error).__name__}: {error}); make it again") from error
