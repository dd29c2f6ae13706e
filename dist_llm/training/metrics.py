"""``metrics.jsonl``: one JSON object per line, in the order of the steps.

It may be long: whoever reads it reads a line at a time.
"""

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dist_llm.atomic import AppendedFile
from dist_llm.training.event_files import EventFiles
from dist_llm.training.progress import warn
from dist_llm.training.run_dir import METRICS, is_gone


class MetricsLog:
    """Appends records to a run's metrics.

    On a full disk that is told once, and done as soon as it can be.

    Parameters
    ----------
    run_dir : Path
    step : int
        Finished steps of the run so far. What a longer, earlier run had recorded beyond them is dropped, so that no
        step is recorded twice.
    event_files : bool
        Write `EventFiles` too.
    say : callable, optional
        Is told in a line what cannot be written.

    Attributes
    ----------
    is_in_vain : bool
        Whether the run folder was gone when the last record was written: the file is in no folder any more.
    """

    def __init__(self, run_dir: Path, step: int, event_files: bool = False, say: Callable[[str], None] = warn) -> None:
        self._run_dir, self._say = run_dir, say
        path = run_dir / METRICS
        self._file = AppendedFile(path, _end_of_step(path, step) if path.exists() else 0)
        self._events = EventFiles(run_dir, step) if event_files else None
        self._told = False
        self.is_in_vain = False

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; floats to six significant digits but for losses, which keep all."""
        self.is_in_vain = is_gone(self._run_dir)
        exact = ("loss", "val_loss")
        short = {k: float(f"{v:.6g}") if isinstance(v, float) and k not in exact else v for k, v in record.items()}
        try:
            self._file.append((json.dumps(short) + "\n").encode())
            if self._events:
                self._events.write(record)
            self._told = False
        except OSError as error:
            if not self._told:
                self._say(
                    f"cannot write {self._file.path}: {error.strerror}; the run goes on, and what is missing there is "
                    "written when it can be"
                )
            self._told = True

    def close(self) -> None:
        """Close the files."""
        for file in (self._file, self._events):
            try:
                if file:
                    file.close()
            except OSError as error:
                self._say(f"the last records of {self._file.path} are not in it: {error.strerror}")


class MetricsReader:
    """Reads a run's metrics while they are written.

    Parameters
    ----------
    run_dir : Path
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / METRICS
        self._position = 0

    def new_records(self, with_key: str = "") -> Iterator[dict[str, Any]]:
        """Yield the records that have been added since the last call; none if there is no file.

        A line that a crash has damaged is left out.

        Parameters
        ----------
        with_key : str
            Only records that have this key; the others, which may be very many, are not even parsed.
        """
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._position)
            for line in file:
                self._position += len(line)
                record = _parsed(line) if with_key.encode() in line else None
                if record is not None and (not with_key or with_key in record):
                    yield record


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Return all records of a run; none if there is no file. A line that a crash has damaged is left out."""
    return list(MetricsReader(run_dir).new_records())


def evaluations_since_best(run_dir: Path, step: int) -> int:
    """Return how many evaluations in a row, the last ones up to a step, have not improved the validation loss."""
    best, since = math.inf, 0
    for record in MetricsReader(run_dir).new_records("val_loss"):
        if record["step"] <= step:
            improved = record["val_loss"] < best
            best, since = (record["val_loss"], 0) if improved else (best, since + 1)
    return since


def _end_of_step(path: Path, step: int) -> int:
    """Return how many bytes of a run's metrics belong to its steps up to this one.

    What a kill has left of a line at the end does not.
    """
    size = 0
    with path.open("rb") as file:
        for line in file:
            record = _parsed(line)
            if not line.endswith(b"\n") or (record is not None and record["step"] > step):
                break
            size += len(line)
    return size


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line.decode(errors="replace"))
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and "step" in record else None
