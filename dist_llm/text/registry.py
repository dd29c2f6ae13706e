"""The tokenizers by name: train one, write it to a file, read it back.

The file is `tokenizer.json` as Hugging Face's tokenizers writes and reads it. It holds the tokenizer's JSON and nothing
else, so its `sha256sum` is the fingerprint.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dist_llm.atomic import write_bytes, write_text
from dist_llm.errors import UserError
from dist_llm.regular_file import TOKENIZER_BYTES, read_json
from dist_llm.text.bpe import BPETokenizer
from dist_llm.text.bpe_training import train_merges
from dist_llm.text.byte import ByteTokenizer
from dist_llm.text.byte_level import PATTERNS
from dist_llm.text.char import ANY_CHARACTER, CharTokenizer
from dist_llm.text.sentencepiece import NORMALIZERS, SentencePieceTokenizer
from dist_llm.text.tokenizer import END_OF_TEXT, Tokenizer

FORMAT_0_1 = "dist_llm tokenizer"  # how version 0.1 began its files

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
# What ends a text in GPT-2 and here, in Llama 3, in DeepSeek, and in Llama 2.
ENDS_OF_TEXT = (END_OF_TEXT, "<|end_of_text|>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "</s>")

LONGEST_COMPLAINT = 200  # characters

TOKENIZERS: dict[str, type[Tokenizer]] = {t.kind: t for t in (ByteTokenizer, CharTokenizer, BPETokenizer)}


def is_file(tokenizer: str) -> bool:
    """Whether ``data.tokenizer`` names an existing tokenizer.json rather than a kind to be trained."""
    return tokenizer not in TOKENIZERS


def train_tokenizer(
    kind: str, texts: Iterable[str], vocab_size: int, run: Callable[..., Any] = map, pattern: str = "gpt2"
) -> Tokenizer:
    """Make a tokenizer for some texts.

    Parameters
    ----------
    kind : str
        "byte", "char" or "bpe".
    texts : iterable of str
        The documents, or their parts, cut at seams; read once. "byte" does not look at them.
    vocab_size : int
        For "bpe"; the others' size follows from what they are.
    run : callable
        Like `map`; may work on several cores.
    pattern : str
        For "bpe": key of `PATTERNS`, how text is cut into pieces.

    Raises
    ------
    UserError
        An unknown kind, no text to learn from, or a vocabulary that is too small.
    """
    if kind == "byte":
        return ByteTokenizer()
    if kind == "char":
        return CharTokenizer.train(texts, run)
    if kind == "bpe":
        cuts = PATTERNS[pattern]
        return BPETokenizer.of_merges(train_merges(texts, vocab_size, run, cuts), cuts)
    raise UserError(f"unknown tokenizer {kind!r}: data.tokenizer is one of {', '.join(TOKENIZERS)}")


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer to a folder, as tokenizer.json and, saying what ends a text, tokenizer_config.json."""
    write_bytes(folder / TOKENIZER, tokenizer.to_json().encode("ascii"))
    write_text(folder / TOKENIZER_CONFIG, json.dumps(tokenizer_config(tokenizer), indent=2) + "\n")


def tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the content of tokenizer_config.json, which Hugging Face's transformers wants too."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokenizer.end_of_text,
        "eos_token": tokenizer.end_of_text,
        "clean_up_tokenization_spaces": False,
    }


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a tokenizer.json; what ends a text, a tokenizer_config.json beside it may say.

    Parameters
    ----------
    path : str or Path
        The file, or a folder that has it.

    Raises
    ------
    UserError
        The file is missing, damaged or of another format; the message names it.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        path = path / TOKENIZER
    data, config = _read_json(path), {}
    if (beside := path.with_name(TOKENIZER_CONFIG)).exists():
        config = _read_json(beside)
    end = config.get("eos_token") if isinstance(config, dict) else None
    if isinstance(end, dict):
        end = end.get("content")
    if not isinstance(end, str | None):
        raise UserError(f"the tokenizer {beside} is damaged (its eos_token is no text)")
    try:
        return tokenizer_from_dict(data, end)
    except UserError as error:
        raise UserError(f"cannot use the tokenizer {path}: {error}") from error


def _read_json(path: Path) -> Any:
    try:
        return read_json(path, TOKENIZER_BYTES)
    except OSError as error:
        raise UserError(f"cannot read the tokenizer {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"the tokenizer {path} is damaged (not JSON: {error})") from error


def tokenizer_from_dict(data: Any, end_of_text: str | None = None) -> Tokenizer:
    """Rebuild a tokenizer of any kind from its `to_dict`.

    Parameters
    ----------
    end_of_text : str, optional
        The special token that ends a text; of those that there are, the best known, unless told.

    Raises
    ------
    UserError
        Another format, a kind this program does not know, or damaged content.
    """
    if not isinstance(data, dict) or not ("model" in data or data.get("format") == FORMAT_0_1):
        raise UserError("it is no tokenizer.json: it has no model")
    try:
        if "model" not in data:
            return _from_0_1(data)
        tokenizer, begin = _kind_of(data).from_dict(data), _begin(data)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        what = str(error)[:LONGEST_COMPLAINT]  # it may name a token of a megabyte
        raise UserError(f"its content is damaged or not supported ({type(error).__name__}: {what})") from error
    if tokenizer.to_dict() != data:
        tokenizer.document = data
    ends = [end_of_text] if end_of_text is not None else ENDS_OF_TEXT
    tokenizer.end_of_text = next((end for end in ends if end in tokenizer.special), None)
    tokenizer.begin_of_text = begin if begin in tokenizer.special else None
    return tokenizer


def _kind_of(data: dict[str, Any]) -> type[Tokenizer]:
    model = data["model"]
    if model["type"] == "WordLevel" and data["pre_tokenizer"]["pattern"] == {"Regex": ANY_CHARACTER}:
        return CharTokenizer
    if model["type"] != "BPE":
        raise ValueError(f"a {model['type']} of this kind is not supported, only a byte-level BPE or characters")
    if data["normalizer"] == {"type": "Sequence", "normalizers": NORMALIZERS}:
        return SentencePieceTokenizer
    if data["normalizer"] not in (None, {"type": "Sequence", "normalizers": []}):
        raise ValueError(f"the normalizer {json.dumps(data['normalizer'])} is not supported")
    return ByteTokenizer if data == ByteTokenizer().to_dict() else BPETokenizer


def _begin(data: dict[str, Any]) -> str | None:
    """Return the special token that is put before a text, if there is one."""
    top = data.get("post_processor") or {}
    for part in top["processors"] if top.get("type") == "Sequence" else [top]:
        if part.get("type") == "TemplateProcessing" and "SpecialToken" in part["single"][0]:
            return str(part["single"][0]["SpecialToken"]["id"])
    return None


def _from_0_1(data: dict[str, Any]) -> Tokenizer:
    """Rebuild a tokenizer as version 0.1 wrote it; its fingerprint stays that of its file, which its shards name."""
    kind = data["kind"]
    tokenizer: Tokenizer
    if kind == "bpe":
        tokenizer = BPETokenizer.of_merges([(left, right) for left, right in data["merges"]])
    elif kind == "char":
        tokenizer = CharTokenizer(data["alphabet"])
    elif kind == "byte":
        tokenizer = ByteTokenizer()
    else:
        raise ValueError(f"its kind {kind} is not one of {', '.join(TOKENIZERS)}")
    content = json.dumps(data, sort_keys=True, separators=(",", ":"))
    tokenizer.fingerprint = hashlib.sha256(content.encode()).hexdigest()
    return tokenizer
