"""``metrics.jsonl``: one JSON object per line, in the order of the steps."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

from dist_llm.atomic import write_text
from dist_llm.training.event_files import EventFiles

FILE = "metrics.jsonl"


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
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = path.open("a", encoding="utf-8")
        self._events = EventFiles(run_dir, step) if event_files else None

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; floats to six significant digits but for losses, which keep all."""
        exact = ("loss", "val_loss")
        short = {k: float(f"{v:.6g}") if isinstance(v, float) and k not in exact else v for k, v in record.items()}
        self._file.write(json.dumps(short) + "\n")
        self._file.flush()
        if self._events:
            self._events.write(record)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._events:
            self._events.close()


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Return the records of a run; none if there is no file. A line that a crash has damaged is left out."""
    try:
        lines = (run_dir / FILE).read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    records = []
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict) and "step" in record]


def evaluations_since_best(run_dir: Path, step: int) -> int:
    """Return how many evaluations in a row, the last ones up to a step, have not improved the validation loss."""
    best, since = math.inf, 0
    for record in read_metrics(run_dir):
        if "val_loss" in record and record["step"] <= step:
            improved = record["val_loss"] < best
            best, since = (record["val_loss"], 0) if improved else (best, since + 1)
    return since
