"""Event files, which TensorBoard shows: the numbers of ``metrics.jsonl`` once more.

Either of two packages, tensorboardX or tensorboard itself, has what an event is and its checksum. The file is written
here: their writers have a thread, and a full disk ends it, after which the run would wait for it for ever.

Format: https://github.com/tensorflow/tensorboard/blob/master/tensorboard/summary/writer/record_writer.py
"""

import importlib
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dist_llm.atomic import AppendedFile
from dist_llm.errors import UserError

# Where each package has its checksum, and where the messages that it writes.
PACKAGES = {
    "tensorboardX": ("tensorboardX.record_writer", "tensorboardX.proto"),
    "tensorboard": ("tensorboard.summary.writer.record_writer", "tensorboard.compat.proto"),
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
        checksum, messages = PACKAGES[_installed_package()]
        self._event = importlib.import_module(f"{messages}.event_pb2")
        self._summary = importlib.import_module(f"{messages}.summary_pb2").Summary
        self._masked_crc32c = importlib.import_module(checksum).masked_crc32c
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = AppendedFile(run_dir / name, 0)
        self._append(file_version="brain.Event:2")
        self._append(step=step + 1, session_log=self._event.SessionLog(status=self._event.SessionLog.START))

    def write(self, record: Mapping[str, Any]) -> None:
        """Append the numbers of a record of the metrics; after an OSError, the next call does it."""
        numbers = {name: value for name, value in record.items() if isinstance(value, float)}
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._append(step=record["step"], summary=self._summary(value=values))

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._file.close()

    def _append(self, **fields: Any) -> None:
        event = self._event.Event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(event))
        checksums = [struct.pack("<I", self._masked_crc32c(part)) for part in (length, event)]
        self._file.append(length + checksums[0] + event + checksums[1])


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
