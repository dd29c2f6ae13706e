"""``metrics.jsonl``: one JSON object per line, in the order of the steps.

    {"step": 1, "tokens": 1792, "loss": 6.2, ..., "crc32": "1c291ca3"}

Each line has its own checksum, of what stands before it: early stopping, tables and pictures rest on these numbers.
"""

import json
import math
import os
import zlib
from pathlib import Path
from typing import Any

from dist_llm.atomic import whole_file
from dist_llm.errors import UserError
from dist_llm.regular_file import open_regular
from dist_llm.training.event_files import EventFiles

FILE = "metrics.jsonl"
CHECKSUM = b', "crc32": "'
LONGEST_LINE = 1 << 20  # bytes
MOST_RECORDS = 1 << 21  # a record takes half a kilobyte of memory
NUMBERS = ("tokens", "loss", "lr", "grad_norm", "tokens_per_s", "val_loss", "val_seconds")


class MetricsLog:
    """Appends records to a run's metrics.

    Parameters
    ----------
    run_dir : Path
    step : int
        Finished steps of the run so far. What a longer, earlier run had recorded beyond them is dropped, so that no
        step is recorded twice.
    event_files : bool
        Write `EventFiles` too.
    """

    def __init__(self, run_dir: Path, step: int, event_files: bool = False) -> None:
        path = run_dir / FILE
        kept = [record for record in read_metrics(run_dir) if record["step"] <= step]
        with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(map(_line, kept))
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._file = open(descriptor, "a", encoding="utf-8")  # noqa: SIM115
        self._events = EventFiles(run_dir, step) if event_files else None

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; floats to six significant digits but for losses, which keep all."""
        exact = ("loss", "val_loss")
        short = {k: float(f"{v:.6g}") if isinstance(v, float) and k not in exact else v for k, v in record.items()}
        self._file.write(_line(short))
        self._file.flush()
        if self._events:
            self._events.write(record)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._events:
            self._events.close()


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Return the records of a run; none if there is no file. A line that a crash has damaged is left out.

    Raises
    ------
    UserError
        It is no regular file, or has lines that no run has written.
    """
    path = run_dir / FILE
    records, checked = [], []
    try:
        with open_regular(path) as file:
            number = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                is_checked, is_damaged = _check(line)
                if not is_damaged and (record := _record(path, number, line)) is not None:
                    records.append(record)
                    checked.append(is_checked)
                if len(records) > MOST_RECORDS or len(line) == LONGEST_LINE:
                    raise _other_contents(path, number, "there is too much of it")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    # Older versions wrote no checksums; where there are some, a line without one is damaged.
    has_checksums = any(checked)
    return [record for record, is_checked in zip(records, checked, strict=True) if is_checked or not has_checksums]


def _line(record: dict[str, Any]) -> str:
    """Return a record as a line, with a checksum."""
    beginning = json.dumps(record)[:-1]
    return f'{beginning}{CHECKSUM.decode()}{zlib.crc32(beginning.encode()):08x}"}}\n'


def _check(line: bytes) -> tuple[bool, bool]:
    """Whether a line has a checksum, and whether that is wrong."""
    beginning, separator, end = line.rpartition(CHECKSUM)
    return bool(separator), bool(separator) and end != f'{zlib.crc32(beginning):08x}"}}\n'.encode()


def _record(path: Path, number: int, line: bytes) -> dict[str, Any] | None:
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
        if isinstance(value := record.get(name, 0), bool) or not isinstance(value, int | float):
            raise _other_contents(path, number, f"{name} is not a number")
    return record


def _other_contents(path: Path, number: int, what: str) -> UserError:
    return UserError(f"{path} has other contents than a run writes (line {number}: {what}): delete the line")


def evaluations_since_best(run_dir: Path, step: int) -> int:
    """Return how many evaluations in a row, the last ones up to a step, have not improved the validation loss."""
    best, since = math.inf, 0
    for record in read_metrics(run_dir):
        if "val_loss" in record and record["step"] <= step:
            improved = record["val_loss"] < best
            best, since = (record["val_loss"], 0) if improved else (best, since + 1)
    return since
