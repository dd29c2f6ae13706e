"""Communication over MPI; the only file that imports mpi4py."""

import contextlib
import os
import signal
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from dist_llm.errors import RankLostError
from dist_llm.parallel.comm import Comm, Pending
from dist_llm.parallel.two_level import LEAST_BYTES, TwoLevelSum
from dist_llm.partition import sizes

T = TypeVar("T")

LEARNING_S = 0.5
SURVIVES = "OMPI_MCA_mpi_ft_enable"  # what mpirun --with-ft ulfm tells the ranks


class MPIComm(Comm):
    """A communicator over all processes of an MPI job, or over those of a communicator of mpi4py's.

    Where MPI has User-Level Failure Mitigation (Bland et al. 2013; Open MPI started with ``--with-ft ulfm``), the death
    of a rank ends the calls of the others with an error instead of the whole job.
    """

    def __init__(self, communicator: Any = None) -> None:
        super().__init__()
        # Open MPI's default for reductions that do not block takes twice as long over a network as its ring. The choice
        # is read when MPI starts; other MPIs ignore it.
        os.environ.setdefault("OMPI_MCA_coll_libnbc_iallreduce_algorithm", "1")
        from mpi4py import MPI

        self._mpi = MPI
        # A duplicate, so that no other library's messages can meet ours.
        self._comm = (communicator or MPI.COMM_WORLD).Dup()
        self.survives = os.environ.get(SURVIVES) == "1"
        self._disagreed = False  # whether all ranks have been told of the loss that they have to recover from
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.any_thread = MPI.Query_thread() >= MPI.THREAD_SERIALIZED
        self.mpi_version = MPI.Get_library_version().split(",")[0].splitlines()[0].strip("\0 ")
        # MPICH sums inside each host first by itself. Under Open MPI's fault tolerance there is one communicator, which
        # the survivors of a dead rank can revoke.
        self._hosts: TwoLevelSum | None = None
        if self.size > 2 and self.mpi_version.startswith("Open MPI") and not self.survives:
            self._hosts = TwoLevelSum(MPI, self._comm, self._comm.Split_type(MPI.COMM_TYPE_SHARED))

    @contextmanager
    def _call(self, kind: str, sent_bytes: float, received_bytes: float) -> Iterator[None]:
        """Count a call that blocks."""
        self._counters.moved(kind, sent_bytes, received_bytes)
        with self._counters.waiting(kind), self._noticing_losses():
            yield

    @contextmanager
    def _noticing_losses(self) -> Iterator[None]:
        """Turn the errors by which MPI tells of a dead rank into `RankLostError`."""
        mpi = self._mpi
        try:
            yield
        except mpi.Exception as error:
            if error.Get_error_class() not in (mpi.ERR_PROC_FAILED, mpi.ERR_PROC_FAILED_PENDING, mpi.ERR_REVOKED):
                raise
            # Some ranks have noticed nothing, and wait for others that have: that ends their waiting.
            self.revoke()
            raise RankLostError from error

    def _of_others(self, n_bytes: int) -> float:
        """Return what of n bytes, divided evenly, is the other ranks'."""
        return n_bytes * (self.size - 1) / self.size

    def allreduce_(self, array: np.ndarray) -> None:
        """Sum in place: with a separate output buffer it would take two to three times as long."""
        n = 2 * self._of_others(array.nbytes)
        with self._call("allreduce", n, n):
            if self._hosts and self._hosts.pays and array.nbytes >= LEAST_BYTES:
                self._hosts.allreduce_(array)
            else:
                self._comm.Allreduce(self._mpi.IN_PLACE, array, op=self._mpi.SUM)

    def iallreduce_(self, array: np.ndarray) -> Pending:
        """Begin to sum in place."""
        n = 2 * self._of_others(array.nbytes)
        self._counters.moved("iallreduce", n, n)
        with self._noticing_losses():
            request = self._comm.Iallreduce(self._mpi.IN_PLACE, array, op=self._mpi.SUM)
        return _Request(request, self)

    def reduce_scatter(self, array: np.ndarray, shards: Sequence[slice]) -> np.ndarray:
        """Sum, and keep this rank's shard."""
        counts = sizes(shards)
        mine = np.empty(counts[self.rank], array.dtype)
        with self._call("reduce_scatter", array.nbytes - mine.nbytes, (self.size - 1) * mine.nbytes):
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
        heads = np.empty((self.size, 2), np.int64)
        with self._counters.waiting("allgather"), self._noticing_losses():
            self._barrier_asleep()
            self._comm.Allgather(np.array([len(pickled), zlib.crc32(pickled)], np.int64), heads)
            lengths = heads[:, 0].tolist()
            joined = np.empty(sum(lengths), np.uint8)
            self._comm.Allgatherv(np.frombuffer(pickled, np.uint8), [joined, lengths])
        own = len(pickled)
        self._counters.moved("allgather", (self.size - 1) * own, sum(lengths) - own)
        parts = [part.tobytes() for part in np.split(joined, np.cumsum(lengths)[:-1])]
        if [zlib.crc32(part) for part in parts] != heads[:, 1].tolist():
            raise RankLostError  # where a rank has died meanwhile, Open MPI may leave a message incomplete
        return [self._mpi.pickle.loads(part) for part in parts]

    def _barrier_asleep(self) -> None:
        """Wait until every rank is here (dissemination barrier, Hensgen, Finkel, Manber 1988), and sleep meanwhile.

        MPI waits by asking again and again, at full speed. A rank that waits here may wait for minutes, while rank 0
        prepares the data or samples, and should leave it the cores.
        """
        distance, nothing = 1, bytearray(1)
        while distance < self.size:
            after, before = (self.rank + distance) % self.size, (self.rank - distance) % self.size
            for request in (self._comm.Isend(bytes(1), after), self._comm.Irecv(nothing, before)):
                while not request.Test():
                    time.sleep(0.001)
            distance *= 2

    def shrink(self, able: bool) -> None:
        """Shrink the communicator, and bring its ranks into order, until nobody dies meanwhile."""
        mpi, left, ordered, agreed = self._mpi, self._comm, self._mpi.COMM_NULL, False
        if not self._disagreed:  # another rank may have noticed nothing yet, and wait for this one to agree
            with contextlib.suppress(mpi.Exception):
                left.Agree(0)
        self._disagreed = False
        while not agreed:
            with contextlib.suppress(mpi.Exception):
                left.Revoke()
            left = left.Shrink()
            ordered = mpi.COMM_NULL
            with contextlib.suppress(mpi.Exception):
                ordered = left.Split(0, 0 if able else 1)
            # The split may fail on some ranks only; that it did, all of them must know.
            with contextlib.suppress(mpi.Exception):
                agreed = bool(left.Agree(int(ordered != mpi.COMM_NULL)))
        self._comm = ordered
        self.rank, self.size = ordered.Get_rank(), ordered.Get_size()
        self.has_shrunk = True

    def revoke(self) -> None:
        """Revoke the communicator, once or again."""
        if self.survives:
            with contextlib.suppress(self._mpi.Exception):
                self._comm.Revoke()

    def agree(self) -> None:
        """Take part in ULFM's agreement, which the death of a rank does not disturb."""
        if self.survives:
            with self._counters.waiting("agree"):
                try:
                    self._disagreed = not self._comm.Agree(1)
                except self._mpi.Exception:
                    self._disagreed = True
            if self._disagreed:
                raise RankLostError

    def has_lost(self) -> bool:
        """Ask MPI, and give it the time to learn of a death."""
        deadline = time.monotonic() + LEARNING_S
        while self.survives and time.monotonic() < deadline:
            if self._comm.Is_revoked() or self._comm.Get_failed().Get_size():
                return True
            time.sleep(0.01)
        return False

    def abort(self, status: int) -> None:
        """End the whole MPI job, or where the others survive, this rank: they notice only a death by a signal."""
        if self.survives:
            os.kill(os.getpid(), signal.SIGKILL)
        self._comm.Abort(status)


class _Request:
    """A request of a communicator's as a `Pending`."""

    def __init__(self, request: Any, comm: MPIComm) -> None:
        self._request, self._comm = request, comm

    def test(self) -> bool:
        """Give MPI the time to proceed."""
        with self._comm._noticing_losses():
            return bool(self._request.Test())

    def wait(self) -> None:
        """Wait, with MPI proceeding."""
        with self._comm._counters.waiting("iallreduce"), self._comm._noticing_losses():
            self._request.Wait()
