"""What the benchmark and its workers say to each other: lines of JSON over a local socket.

A socket rather than stdin and stdout: it reaches every rank of an MPI job and not only rank 0, launchers do not meddle
with it, libraries may print what they like, and a process that waits for a line sleeps. When one side is gone, however
it ended, the other reads the end of the stream.
"""

import contextlib
import json
import socket
from pathlib import Path
from typing import Any


class Channel:
    """One end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rw", encoding="utf-8")

    @classmethod
    def to(cls, path: str) -> "Channel":
        """Connect to the socket at `path`."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        return cls(connection)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; nobody there to hear it is no error here, but the end of the stream at the next receive."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._stream.write(json.dumps(message) + "\n")
            self._stream.flush()

    def receive(self) -> dict[str, Any] | None:
        """Wait for the next message; None when the other side is gone."""
        try:
            line = self._stream.readline()
        except ConnectionResetError:
            return None
        return json.loads(line) if line.endswith("\n") else None

    def close(self) -> None:
        """End the stream."""
        with contextlib.suppress(OSError):  # something unsent, and nobody to take it
            self._stream.close()
        self._connection.close()


def listen(path: Path) -> socket.socket:
    """Return a listening socket, whose `accept` gives up after a moment."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(128)
    listener.settimeout(0.1)
    return listener
