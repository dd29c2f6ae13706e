"""Event files, which TensorBoard shows: the numbers of ``metrics.jsonl`` once more.

They are written by whichever of two packages is there, tensorboardX or tensorboard itself; both have the same classes.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dist_llm.errors import UserError

# Where each package has its writer, and where the messages that it writes.
PACKAGES = {
    "tensorboardX": ("tensorboardX.event_file_writer", "tensorboardX.proto"),
    "tensorboard": ("tensorboard.summary.writer.event_file_writer", "tensorboard.compat.proto"),
}


class EventFiles:
    """Appends to the event files of a run.

    Parameters
    ----------
    run_dir : Path
    step : int
        Finished steps of the run so far. TensorBoard forgets what a longer, earlier run has recorded beyond them.
    """

    def __init__(self, run_dir: Path, step: int) -> None:
        writer, messages = PACKAGES[_installed_package()]
        self._event = importlib.import_module(f"{messages}.event_pb2")
        self._summary = importlib.import_module(f"{messages}.summary_pb2").Summary
        self._file = importlib.import_module(writer).EventFileWriter(str(run_dir))
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        self._file.add_event(self._event.Event(step=step + 1, session_log=start))

    def write(self, record: Mapping[str, Any]) -> None:
        """Append the numbers of a record of the metrics."""
        numbers = {name: value for name, value in record.items() if isinstance(value, float)}
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._file.add_event(self._event.Event(step=record["step"], summary=self._summary(value=values)))
        self._file.flush()

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._file.close()


def check_that_event_files_can_be_written() -> None:
    """Find a package that writes them.

    Raises
    ------
    UserError
        There is none.
    """
    _installed_package()


def _installed_package() -> str:
    for package, modules in PACKAGES.items():
        try:
            for module in modules:
                importlib.import_module(module)
        except ImportError:
            continue
        return package
    raise UserError(
        "log.tensorboard=true needs tensorboardX or tensorboard, and neither is installed: "
        "python -m pip install tensorboardX, or leave it out"
    )
