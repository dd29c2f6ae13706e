"""A line of ``metrics.jsonl``, with its checksum.

    {"step": 1, "tokens": 1792, "loss": 6.2, ..., "crc32": "1c291ca3"}

The checksum is of what stands before it: early stopping, tables and pictures rest on these numbers. Older versions
wrote none.
"""

import json
import zlib
from pathlib import Path
from typing import Any

from dist_llm.errors import UserError

CHECKSUM = b', "crc32": "'
LONGEST_LINE = 1 << 20  # bytes
NUMBERS = ("tokens", "loss", "lr", "grad_norm", "tokens_per_s", "val_loss", "val_seconds")
MAY_BE_MISSING = ("loss", "grad_norm")  # null, where they were no finite numbers


def line_of(record: dict[str, Any]) -> bytes:
    """Return a record as a line, with a checksum."""
    beginning = json.dumps(record)[:-1].encode()
    return beginning + _ending(beginning)


def _ending(beginning: bytes) -> bytes:
    return CHECKSUM + f'{zlib.crc32(beginning):08x}"}}\n'.encode()


def record_of(path: Path, number: int, line: bytes, checked: bool) -> dict[str, Any] | None:
    """Return the record of a line; None if the line is damaged.

    Parameters
    ----------
    path : Path
    number : int
        File that it is from, and its number there, for a message.
    line : bytes
    checked : bool
        Whether it must have a checksum.

    Raises
    ------
    UserError
        No run has written such a line.
    """
    beginning, separator, _ = line.rpartition(CHECKSUM)
    if (separator and line != beginning + _ending(beginning)) or (checked and not separator):
        return None
    try:
        record = json.loads(line.decode(errors="replace"))
    except RecursionError as error:
        raise _other_contents(path, number, "it is nested too deeply") from error
    except ValueError:  # a number of thousands of digits, or no JSON
        return None
    if not isinstance(record, dict) or "step" not in record:
        return None
    record.pop("crc32", None)
    step = record["step"]
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise _other_contents(path, number, "step is not a number of steps")
    for name in NUMBERS:
        value = record.get(name, 0)
        if value is None and name in MAY_BE_MISSING:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _other_contents(path, number, f"{name} is not a number")
    return record


def _other_contents(path: Path, number: int, what: str) -> UserError:
    return UserError(f"{path} has other contents than a run writes (line {number}: {what}): delete the line")
