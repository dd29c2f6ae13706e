"""Bytes written as printable characters, as GPT-2 writes them, and the patterns that cut text into pieces.

A vocabulary of byte strings is stored as JSON, whose strings are text. Bytes that print as they are in Latin-1 stand
for themselves; the other 68, such as the space, are U+0100, U+0101, ... in the order of the bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import regex

PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
SYMBOLS = [chr(byte if byte in PRINTABLE else 256 + OTHERS.index(byte)) for byte in range(256)]
BYTE_OF = {symbol: byte for byte, symbol in enumerate(SYMBOLS)}

UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
ENDING = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
# In each, every character belongs to some piece, so the pieces join to the text again. A word takes the one space
# before it along; of several the last goes with the word, the rest are a piece.
PATTERNS = {
    # Radford et al. 2019, Language Models are Unsupervised Multitask Learners
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # Llama 3's, which is GPT-4's: at most three digits together, a word takes any one sign along, lines end pieces.
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    # GPT-4o's: moreover, a capital letter begins a piece, and endings stay with their words.
    "gpt4o": rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENDING}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENDING}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}

LONGEST_PATTERN = 1 << 12  # characters
CALLS = regex.compile(r"\(\?(?:R|&|P>|[+-]?\d)")  # what in a pattern calls a part of it, and takes a gigabyte


def to_symbols(token: bytes) -> str:
    """Return a token's bytes as printable characters."""
    return "".join([SYMBOLS[byte] for byte in token])


def from_symbols(text: str) -> bytes:
    """Return the bytes that `to_symbols` was given.

    Raises
    ------
    ValueError
        A character stands for no byte.
    """
    try:
        return bytes([BYTE_OF[symbol] for symbol in text])
    except KeyError as error:
        raise ValueError(f"{error.args[0]!r} in the token {text!r} stands for no byte") from None


def byte_level(use_regex: bool = True) -> dict[str, Any]:
    """Return what tokenizer.json calls ByteLevel: bytes as printable characters, after cutting by GPT-2's pattern."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def byte_level_bpe(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the model of tokenizer.json: a BPE of printable characters."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": dict(vocab),
        "merges": [list(pair) for pair in merges],
    }


def read_patterns(data: Mapping[str, Any]) -> list[str]:
    """Return the regular expressions by which a tokenizer.json cuts text, in their order.

    Raises
    ------
    ValueError
        It cuts in another way.
    """
    top = data["pre_tokenizer"] or {"type": "Sequence", "pretokenizers": []}
    parts = top["pretokenizers"] if top["type"] == "Sequence" else [top]
    patterns = []
    for part in parts:
        if part["type"] == "ByteLevel":
            if part.get("add_prefix_space"):
                raise ValueError("a pre-tokenizer that adds a space before a text is not supported")
            if part.get("use_regex", True):
                patterns.append(PATTERNS["gpt2"])
        elif part["type"] == "Split" and _keeps_all(part):
            (kind, pattern), *_ = part["pattern"].items()
            patterns.append(pattern if kind == "Regex" else regex.escape(pattern))
        elif part["type"] == "Digits":
            patterns.append(r"\p{N}" if part["individual_digits"] else r"\p{N}+")
        else:
            raise ValueError(f"the pre-tokenizer {part['type']} is not supported")
    if not parts or parts[-1]["type"] != "ByteLevel":
        raise ValueError("its pre-tokenizer does not end with ByteLevel: it is no byte-level BPE")
    for pattern in patterns:
        if len(pattern) > LONGEST_PATTERN or CALLS.search(pattern):
            raise ValueError(f"the pattern {pattern[:80]!r} is too long, or calls itself: it is not supported")
        try:
            regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"the pattern {pattern!r} is not supported ({error})") from None
    return patterns


def _keeps_all(split: Mapping[str, Any]) -> bool:
    """Whether a Split only cuts: matches and what lies between are pieces (or its pattern leaves nothing between)."""
    return (split["behavior"], split.get("invert", False)) in {
        ("Isolated", False),
        ("Isolated", True),
        ("Removed", True),
    }
