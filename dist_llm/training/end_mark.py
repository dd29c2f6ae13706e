"""The mark of a run that has ended as it should: ``RUN/end.json``, absent while the run is under way.

Whoever started the run believes it rather than an exit status: mpirun has been seen to give 0 after a host was lost.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from dist_llm.atomic import write_text
from dist_llm.regular_file import read_json

FILE = "end.json"
LIMIT_BYTES = 1000  # of a file that a run has written there is no more


@dataclass(frozen=True)
class EndMark:
    """How a run ended.

    Attributes
    ----------
    how : str
        ``finished``: at its last step, or because its patience was over; ``stopped``: because it was asked to.
    step, max_steps : int
        Steps taken, and steps wanted.
    """

    how: str
    step: int
    max_steps: int


def write_end_mark(run_dir: Path, mark: EndMark) -> None:
    """Write the mark, whole or not at all."""
    write_text(run_dir / FILE, json.dumps(asdict(mark)) + "\n")


def remove_end_mark(run_dir: Path) -> None:
    """Remove the mark, if there is one: the run is under way again."""
    (run_dir / FILE).unlink(missing_ok=True)


def read_end_mark(run_dir: Path) -> EndMark | None:
    """Return the mark; None if there is none, or one that no run has written."""
    try:
        mark = EndMark(**read_json(run_dir / FILE, LIMIT_BYTES))
    except (OSError, ValueError, TypeError):
        return None
    numbers = type(mark.step) is int and type(mark.max_steps) is int
    return mark if mark.how in ("finished", "stopped") and numbers else None
