"""Texts that break tokenizers, and one that is pleasant to train on."""

import inspect
import random
import textwrap

# English and code that is at hand wherever the tests run.
PROSE = (inspect.getsource(textwrap) + inspect.getsource(random))[:40_000]

HOSTILE = [
    "",
    " ",
    "\x00",
    "a\x00b\x00\x00",
    "<|endoftext|>",
    "one<|endoftext|>two<|endoftext|><|endoftext|>",
    "<|endoftext|<|endoftext|>|>",
    "<|endoftext",
    "\ud800",
    "\udfff tail",
    "\ud83d\ude00",  # two lone surrogates, which must not become one emoji
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",  # joined and flag emoji
    "e\u0301 a\u0308\u00a0\u200b\ufeff \u3000",  # combining marks, invisible characters
    "\r\n\r\n\t \v\f\x1c\x1d\x1e\x1f\x85\u2028",
    "it's IT'S we'll 'tis ' 's",
    "snake_case __init__ x² ½ Ⅷ 一二 ٣٤ 3.14",
    "日本語のテキスト。العربية हिन्दी ไทย",
    "\ufffd\uffff\U0010ffff",
    "    indented\n        more  \n\n\n",
    "a" * 250,
]


def random_texts(n: int) -> list[str]:
    """Mix every plane of Unicode, surrogates and much ASCII, from a fixed seed."""
    rng = random.Random(20240229)
    ranges = [(0, 0x7F), (0, 0x7F), (0x80, 0x7FF), (0x800, 0xFFFF), (0xD800, 0xDFFF), (0x10000, 0x10FFFF)]
    return ["".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randrange(60))) for _ in range(n)]
