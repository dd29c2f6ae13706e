"""Communication over MPI; the only file that imports mpi4py."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from dist_llm.parallel.comm import Comm, Pending
from dist_llm.parallel.counts import Counters
from dist_llm.partition import sizes

T = TypeVar("T")


class MPIComm(Comm):
    """A communicator over all processes of an MPI job, or over those of a communicator of mpi4py's."""

    def __init__(self, communicator: Any = None) -> None:
        super().__init__()
        # Open MPI's default for reductions that do not block takes twice as long over a network as its ring. The choice
        # is read when MPI starts; other MPIs ignore it.
        os.environ.setdefault("OMPI_MCA_coll_libnbc_iallreduce_algorithm", "1")
        from mpi4py import MPI

        self._mpi = MPI
        # A duplicate, so that no other library's messages can meet ours.
        self._comm = (communicator or MPI.COMM_WORLD).Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.any_thread = MPI.Query_thread() >= MPI.THREAD_SERIALIZED
        self.mpi_version = MPI.Get_library_version().split(",")[0].splitlines()[0].strip("\0 ")

    @contextmanager
    def _call(self, kind: str, sent_bytes: float, received_bytes: float) -> Iterator[None]:
        """Count a call that blocks."""
        self._counters.moved(kind, sent_bytes, received_bytes)
        with self._counters.waiting(kind):
            yield

    def _of_others(self, n_bytes: int) -> float:
        """Return what of n bytes, divided evenly, is the other ranks'."""
        return n_bytes * (self.size - 1) / self.size

    def allreduce_(self, array: np.ndarray) -> None:
        """Sum in place: with a separate output buffer it would take two to three times as long."""
        n = 2 * self._of_others(array.nbytes)
        with self._call("allreduce", n, n):
            self._comm.Allreduce(self._mpi.IN_PLACE, array, op=self._mpi.SUM)

    def iallreduce_(self, array: np.ndarray) -> Pending:
        """Begin to sum in place."""
        n = 2 * self._of_others(array.nbytes)
        self._counters.moved("iallreduce", n, n)
        request = self._comm.Iallreduce(self._mpi.IN_PLACE, array, op=self._mpi.SUM)
        return _Request(request, "iallreduce", self._counters)

    def reduce_scatter(self, array: np.ndarray, shards: Sequence[slice]) -> np.ndarray:
        """Sum, and keep this rank's shard."""
        counts = sizes(shards)
        mine = np.empty(counts[self.rank], array.dtype)
        n = self._of_others(array.nbytes)
        with self._call("reduce_scatter", n, n):
            self._comm.Reduce_scatter(array, mine, counts, op=self._mpi.SUM)
        return mine

    def allgatherv_(self, array: np.ndarray, shards: Sequence[slice]) -> None:
        """Send this rank's shard to all."""
        counts = sizes(shards)
        own = counts[self.rank] * array.itemsize
        with self._call("allgatherv", (self.size - 1) * own, array.nbytes - own):
            self._comm.Allgatherv(self._mpi.IN_PLACE, [array, counts])

    def alltoallv(self, array: np.ndarray, shards: Sequence[slice]) -> np.ndarray:
        """Send each rank its shard."""
        counts = sizes(shards)
        received = np.empty((self.size, counts[self.rank]), array.dtype)
        own = counts[self.rank] * array.itemsize
        with self._call("alltoallv", array.nbytes - own, (self.size - 1) * own):
            self._comm.Alltoallv([array, counts], [received, [counts[self.rank]] * self.size])
        return received

    def gatherv(self, shard: np.ndarray, shards: Sequence[slice]) -> np.ndarray | None:
        """Send the shard to rank 0."""
        counts = sizes(shards)
        whole = np.empty(sum(counts), shard.dtype) if self.rank == 0 else None
        sent, received = (shard.nbytes, 0) if whole is None else (0, whole.nbytes - shard.nbytes)
        with self._call("gatherv", sent, received):
            self._comm.Gatherv(shard, None if whole is None else [whole, counts], root=0)
        return whole

    def scatterv(self, whole: np.ndarray | None, shard: np.ndarray, shards: Sequence[slice]) -> None:
        """Receive the shard from rank 0."""
        sent, received = (0, shard.nbytes) if whole is None else (whole.nbytes - shard.nbytes, 0)
        with self._call("scatterv", sent, received):
            self._comm.Scatterv(None if whole is None else [whole, sizes(shards)], shard, root=0)

    def bcast_(self, array: np.ndarray) -> None:
        """Send rank 0's array to all."""
        n = self._of_others(array.nbytes)
        with self._call("bcast", *((n, 0) if self.rank == 0 else (0, array.nbytes))):
            self._comm.Bcast(array, root=0)

    def allgather(self, value: T) -> list[T]:
        """Gather pickled values on every rank."""
        pickled = self._mpi.pickle.dumps(value)
        with self._counters.waiting("allgather"):
            # MPI waits by asking again and again, at full speed. A rank that waits here may wait for minutes, while
            # rank 0 prepares the data or writes a checkpoint, and should leave it the cores.
            arrived = self._comm.Ibarrier()
            while not arrived.Test():
                time.sleep(0.001)
            all_pickled: list[bytes] = self._comm.allgather(pickled)
        own = len(pickled)
        self._counters.moved("allgather", (self.size - 1) * own, sum(map(len, all_pickled)) - own)
        return [self._mpi.pickle.loads(other) for other in all_pickled]

    def abort(self, status: int) -> None:
        """End the whole MPI job."""
        self._comm.Abort(status)


class _Request:
    """An MPI request as a `Pending`."""

    def __init__(self, request: Any, kind: str, counters: Counters) -> None:
        self._request, self._kind, self._counters = request, kind, counters

    def test(self) -> bool:
        """Give MPI the time to proceed."""
        return bool(self._request.Test())

    def wait(self) -> None:
        """Wait, with MPI proceeding."""
        with self._counters.waiting(self._kind):
            self._request.Wait()
