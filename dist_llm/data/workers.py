"""Work that several processes share: like `map`, and with the same result for any number of them.

Each process is a fresh Python that does one job at a time. It ends when this one does, however that comes about: a
Ctrl-C ends it, and so does the end of the pipe that its jobs come through.
"""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from dist_llm.errors import RunError

Job = TypeVar("Job")
Result = TypeVar("Result")


class Workers:
    """A number of processes, started when there is work for two.

    Parameters
    ----------
    n : int
        With 1 there are none, and this process does the work.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._processes: dict[Connection, BaseProcess] = {}

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, error: object, *_: object) -> None:
        for connection, process in self._processes.items():
            connection.close()
            if error is not None:  # what it has not handed in is not wanted any more
                process.kill()
        for process in self._processes.values():
            process.join()
            process.close()
        self._processes.clear()

    def map(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Yield the results of all jobs, in the order of the jobs.

        Parameters
        ----------
        function : callable
            Of a module: a process finds it by its name.
        jobs : iterable
            Taken one by one as processes become free.

        Raises
        ------
        RunError
            A process was ended from outside.
        Exception
            What `function` raises.
        """
        numbered = enumerate(jobs)
        first, second = next(numbered, None), next(numbered, None)
        if first is None:
            return
        if self._n == 1 or second is None:
            for pair in (first, second):
                if pair is not None:
                    yield function(pair[1])
            for _, job in numbered:
                yield function(job)
            return
        self._start()
        waiting = [second, first]
        at_work: dict[Connection, int] = {}
        results: dict[int, Result] = {}
        done = 0
        while True:
            for connection in self._processes.keys() - at_work.keys():
                pair = waiting.pop() if waiting else next(numbered, None)
                if pair is None:
                    break
                at_work[connection] = pair[0]
                self._send(connection, (function, pair[1]))
            if not at_work:
                return
            for ready in wait(list(at_work)):
                assert isinstance(ready, Connection)
                results[at_work.pop(ready)] = self._receive(ready)
            while done in results:
                yield results.pop(done)
                done += 1

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # MPI and the BLAS have threads, which a fork would break
        while len(self._processes) < self._n:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._processes[ours] = process

    def _send(self, connection: Connection, message: Any) -> None:
        try:
            connection.send(message)
        except OSError as error:
            raise self._ended(connection) from error

    def _receive(self, connection: Connection) -> Any:
        try:
            succeeded, result = connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended(connection) from error
        if not succeeded:
            raise result
        return result

    def _ended(self, connection: Connection) -> RunError:
        process = self._processes[connection]
        process.join()
        return RunError(
            f"a process that prepares the text has ended (exit code {process.exitcode}): if the memory was full, "
            "close other programs; then the same command goes on where this one stopped"
        )


def _work(connection: Connection) -> None:
    """Do jobs until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the process that shares the work out: it ends us
    with connection, contextlib.suppress(EOFError, OSError):
        while True:
            function, job = connection.recv()
            try:
                answer = True, function(job)
            except Exception as error:
                answer = False, error
            connection.send(answer)
