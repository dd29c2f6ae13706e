"""``metrics.jsonl``: one JSON object per line, in the order of the steps.

It may be long: whoever reads it reads a line at a time. Each line has its own checksum (`metrics_line`).
"""

import itertools
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dist_llm.atomic import AppendedFile, whole_file
from dist_llm.errors import UserError
from dist_llm.regular_file import open_regular
from dist_llm.training.event_files import EventFiles
from dist_llm.training.metrics_line import CHECKSUM, LONGEST_LINE, line_of, record_of
from dist_llm.training.progress import warn
from dist_llm.training.run_dir import METRICS, is_gone

TAIL_BYTES = 1 << 16  # which hold a hundred lines


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
        if os.path.lexists(path) and not _has_checksums(path):
            _add_checksums(path)
        self._file = AppendedFile(path, _end_of_step(path, step) if path.exists() else 0)
        self._events = EventFiles(run_dir, step) if event_files else None
        self._told = False
        self.is_in_vain = False

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; floats to six significant digits but for losses, which keep all."""
        self.is_in_vain = is_gone(self._run_dir)
        exact = ("loss", "val_loss", "full_val_loss")
        short = {k: float(f"{v:.6g}") if isinstance(v, float) and k not in exact else v for k, v in record.items()}
        try:
            self._file.append(line_of(short))
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
        self._position = self._n_lines = 0

    def new_records(self, with_key: str = "") -> Iterator[dict[str, Any]]:
        """Yield the records that have been added since the last call; none if there is no file.

        A line that a crash has damaged is left out.

        Parameters
        ----------
        with_key : str
            Only records that have this key; the others, which may be very many, are not even parsed.
        """
        try:
            checked = _has_checksums(self._path)
            for number, line in _lines(self._path, self._position, self._n_lines + 1):
                self._position += len(line)
                self._n_lines = number
                record = record_of(self._path, number, line, checked) if with_key.encode() in line else None
                if record is not None and (not with_key or with_key in record):
                    yield record
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(f"cannot read {self._path}: {error.strerror}") from error


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Return all records of a run; none if there is no file. A line that a crash has damaged is left out.

    Raises
    ------
    UserError
        It is no regular file, or has lines that no run has written.
    """
    return list(MetricsReader(run_dir).new_records())


def evaluations_since_best(run_dir: Path, step: int) -> int:
    """Return how many evaluations in a row, the last ones up to a step, have not improved the validation loss."""
    best, since = math.inf, 0
    for record in MetricsReader(run_dir).new_records("val_loss"):
        if record["step"] <= step:
            improved = record["val_loss"] < best
            best, since = (record["val_loss"], 0) if improved else (best, since + 1)
    return since


def _lines(path: Path, position: int = 0, first: int = 1) -> Iterator[tuple[int, bytes]]:
    with open_regular(path) as file:
        file.seek(position)
        for number in itertools.count(first):
            line = file.readline(LONGEST_LINE)
            if not line:
                return
            if len(line) == LONGEST_LINE:
                raise UserError(f"{path} has other contents than a run writes (line {number} is too long): delete it")
            yield number, line


def _has_checksums(path: Path) -> bool:
    """Whether the lines of a file have checksums: all of them, or none, as in older versions."""
    with open_regular(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        return CHECKSUM in file.read()


def _add_checksums(path: Path) -> None:
    """Give the lines of an older version checksums; those that are damaged are left out."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        for number, line in _lines(path):
            if (record := record_of(path, number, line, checked=False)) is not None:
                file.write(line_of(record))


def _end_of_step(path: Path, step: int) -> int:
    """Return how many bytes of a run's metrics belong to its steps up to this one.

    What a kill has left of a line at the end does not.
    """
    size = 0
    for number, line in _lines(path):
        record = record_of(path, number, line, checked=True)
        if not line.endswith(b"\n") or (record is not None and record["step"] > step):
            break
        size += len(line)
    return size
