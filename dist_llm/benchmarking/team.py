"""The processes of one contestant, seen from the benchmark: started once, asked in turns, ended for certain.

Starting, importing, compiling and warming up happen before the first turn. Between their turns all processes of a team
sleep, each of them waiting for a message of its own: no rank waits for another inside MPI, which would keep a core
busy. The messages go over a local socket rather than stdin and stdout: it reaches every rank of an MPI job, launchers
do not meddle with it, and when one side is gone, however it ended, the other reads the end of the stream.
"""

import contextlib
import socket
import subprocess
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dist_llm.benchmarking.contestants import Contestant
from dist_llm.benchmarking.turn import Answer, Job
from dist_llm.config import Config
from dist_llm.errors import RunError
from dist_llm.measuring.jobs import PATIENCE_S, choose_launcher, end, last_words, start

WORKER = "dist_llm.benchmarking.worker"


class Team:
    """A contestant's processes, which take so many training steps in a turn; `setup` is what they say of themselves.

    The folder is for sockets and logs, and has a short name: the path of a socket has about a hundred characters.
    """

    def __init__(self, contestant: Contestant, config: Config, steps: int, folder: Path) -> None:
        self.contestant, self.setup = contestant, ""
        self._socket, self._log, rendezvous = (
            folder / f"{contestant.name}.{end}" for end in ("socket", "log", "rendezvous")
        )
        self._job = Job(config, steps, contestant.processes, contestant.threads, str(rendezvous))
        self._started: list[subprocess.Popen[str]] = []
        self._connections: list[Connection[Any, Any]] = []

    def start(self) -> None:
        """Start the processes, and wait until all are warm; raise `RunError` if one of them cannot, saying why."""
        n, threads = self.contestant.processes, self.contestant.threads
        by_rank: dict[int, Connection[Any, Any]] = {}
        with socket.socket(socket.AF_UNIX) as listener, self._log.open("w") as log:
            listener.bind(str(self._socket))
            listener.listen(n)
            listener.settimeout(0.1)
            if self.contestant.by_mpirun:
                launch = choose_launcher().command(n, threads)
                self._started.append(start(launch, WORKER, [str(self._socket)], threads, log))
            else:
                self._started += [start([], WORKER, [str(self._socket), str(r)], threads, log) for r in range(n)]
            while len(by_rank) < n:
                try:
                    connection: Connection[Any, Any] = Connection(listener.accept()[0].detach())
                except TimeoutError:
                    if any(process.poll() is not None for process in self._started):
                        raise RunError(self._last_words()) from None
                    continue
                self._connections.append(connection)
                by_rank[self._receive(connection)] = connection
                connection.send((self.contestant.make, self._job))
        self._connections = [by_rank[rank] for rank in range(n)]
        self.setup, *_ = [self._receive(connection) for connection in self._connections]

    def turn(self) -> list[Answer]:
        """Let the team work for one turn; return each process's answer, or raise `RunError` if one failed."""
        for connection in self._connections:
            with contextlib.suppress(ConnectionError):  # that it is gone will be heard at once
                connection.send(True)
        return [self._receive(connection) for connection in self._connections]

    def _receive(self, connection: "Connection[Any, Any]") -> Any:
        try:
            message = connection.recv()
        except (EOFError, ConnectionError):
            raise RunError(self._last_words()) from None
        if isinstance(message, RunError):
            raise message
        return message

    def _last_words(self) -> str:
        return last_words(self._log.read_text(errors="replace"))

    def dismiss(self) -> None:
        """Tell all processes to end, and do not wait for it."""
        for connection in self._connections:
            connection.close()

    def end(self) -> None:
        """End all processes: by the end of the stream, and where that does not help, by signals."""
        self.dismiss()
        # One that was still warming up does not listen, and need not be waited for.
        end(self._started, PATIENCE_S if self.setup else 0.0)
