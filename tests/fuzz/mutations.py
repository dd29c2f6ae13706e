"""How files are mutated: bytes and lines that change, move or go, and values of another type, size or depth.

Some mutations of JSON leave it JSON: what is wrong is then found by what the values are, and not by the form.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

# What a value of JSON is replaced by.
VALUES = [
    None, True, False, 0, -1, 1, 0.5, -0.0, 2**31, 2**63, 10**400, 1e308, float("inf"), float("nan"), "", "x", "..",
    "/", "../../x", "a\0b", "\ud800", "x" * 10_000, [], {}, [[]], [1], ["x"], {"x": 1}, {"": {"": {}}},
]  # fmt: skip
WORDS = [
    b"\xff\xfe", b"\x00", b"\r\n", b'"', b"\\u0000", b"\\ud800", b"[[[[", b"{", b"}", b"999999999999", b"-1", b"1e999",
    b"NaN", b"null", b"true", b"'''", b"#", b"=", b"[model]\n", b"\xc2\xb2", b"..", b"/",
]  # fmt: skip


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a mutation of a file, which may be equal to it."""
    structured: list[Callable[[bytes, np.random.Generator], bytes]] = [flip, flip, cut, delete, insert, double, digit]
    if content.startswith(b"{"):
        structured += [change_value, change_value, change_value]
    if b"__metadata__" in content[:200] or content[8:9] == b"{":
        structured += [change_header, change_header, change_header]
    return structured[rng.integers(len(structured))](content, rng)


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip one bit to four."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
    return bytes(changed)


def digit(content: bytes, rng: np.random.Generator) -> bytes:
    """Change one digit, or another character."""
    changed = bytearray(content)
    at = int(rng.integers(len(changed)))
    near = next((i for i in range(at, min(at + 500, len(changed))) if chr(changed[i]).isdigit()), at)
    changed[near] = rng.choice(np.frombuffer(b"0123456789abcdef", np.uint8))
    return bytes(changed)


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut off the end, or the beginning."""
    at = int(rng.integers(len(content) + 1))
    return content[:at] if rng.random() < 0.8 else content[at:]


def delete(content: bytes, rng: np.random.Generator) -> bytes:
    """Delete some bytes in the middle."""
    start = int(rng.integers(len(content)))
    return content[:start] + content[start + int(rng.integers(1, 100)) :]


def insert(content: bytes, rng: np.random.Generator) -> bytes:
    """Insert what is special to somebody."""
    at = int(rng.integers(len(content) + 1))
    word = WORDS[rng.integers(len(WORDS))] * int(rng.choice([1, 1, 1, 2, 30, 3000]))
    return content[:at] + word + content[at:]


def double(content: bytes, rng: np.random.Generator) -> bytes:
    """Put some bytes a second time, somewhere else."""
    start, at = (int(rng.integers(len(content))) for _ in range(2))
    return content[:at] + content[start : start + int(rng.integers(1, 300))] + content[at:]


def change_value(content: bytes, rng: np.random.Generator) -> bytes:
    """Replace, remove or add a value of JSON, anywhere in it; of JSON Lines, in one of the lines."""
    lines = content.splitlines()
    try:
        document = json.loads(content)
    except ValueError:
        i = int(rng.integers(len(lines)))
        try:
            changed = json.dumps(changed_document(json.loads(lines[i]), rng)).encode()
        except ValueError:
            return flip(content, rng)
        return b"\n".join([*lines[:i], changed, *lines[i + 1 :]]) + b"\n"
    return json.dumps(changed_document(document, rng)).encode()


def changed_document(document: Any, rng: np.random.Generator) -> Any:
    """Return a document of JSON with one to three places changed."""
    for _ in range(rng.integers(1, 4)):
        places: list[tuple[Any, Any]] = []
        _find_places(document, places)
        if not places:
            return VALUES[rng.integers(len(VALUES))]
        holder, key = places[rng.integers(len(places))]
        what = rng.random()
        if what < 0.15:
            del holder[key]
        elif what < 0.25 and isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        elif what < 0.3:
            holder[key] = nested(int(rng.choice([10, 900, 100_000])))
        else:
            holder[key] = json.loads(json.dumps(VALUES[rng.integers(len(VALUES))]))
    return document


def nested(depth: int) -> Any:
    """Return a list in a list in a list; JSON has no text of more than some hundreds, so deeper ones are cut."""
    value: Any = []
    for _ in range(min(depth, 400)):
        value = [value]
    return value


def _find_places(value: Any, places: list[tuple[Any, Any]]) -> None:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        places.append((value, key))
        if len(places) < 2000:
            _find_places(item, places)


def change_header(content: bytes, rng: np.random.Generator) -> bytes:
    """Change the header of a safetensors file, which is JSON, with its length; types and shapes above all."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
    except ValueError:
        return flip(content, rng)
    tensors = [name for name in header if name != "__metadata__"]
    tensor = header[tensors[rng.integers(len(tensors))]]
    what = rng.integers(5)
    if what == 0:
        tensor["dtype"] = str(rng.choice(["BF16", "F16", "I32", "I8", "U8", "BOOL", "F64", "I64", "F8_E4M3", "X"]))
    elif what == 1:
        tensor["shape"] = [[*tensor["shape"], 1], tensor["shape"][::-1], [2**62, 2**62], [0], []][rng.integers(5)]
    elif what == 2:
        first, second = (tensors[i] for i in rng.integers(len(tensors), size=2))
        header[first], header[second] = header[second], header[first]
    elif what == 3:
        header = changed_document(header, rng)
    else:  # the same bytes, as numbers of half the size
        tensor["dtype"], tensor["shape"] = "BF16", [*tensor["shape"][:-1], 2 * (tensor["shape"] or [1])[-1]]
    changed = json.dumps(header).encode()
    return len(changed).to_bytes(8, "little") + changed + content[8 + length :]
