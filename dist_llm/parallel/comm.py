"""Communication between the ranks of a run: the interface `Comm`, and `SerialComm`, the communicator of size 1.

One process is not a special case: every caller does the same with it or with several (`mpi_comm.MPIComm`).
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar, cast

import numpy as np

from dist_llm.errors import FailedElsewhereError, ReportedError
from dist_llm.parallel.counts import Counters, Counts

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
    survives : bool
        Whether the death of a rank leaves the others running: their calls then raise `RankLostError`, until they
        `shrink`. Else it ends the job.
    has_shrunk : bool
        Whether ranks were left behind; a process must then end without MPI_Finalize, which may hang.
    watchdog : Watching
        Told of what is under way.
    """

    rank: int
    size: int
    mpi_version: str
    any_thread = True
    survives = False
    has_shrunk = False

    def __init__(self) -> None:
        self._counters = Counters()
        self.watchdog: Watching = NotWatching()

    @property
    def waits_s(self) -> float:
        """How long this rank has been in a call that waits for others, in seconds; any thread may ask."""
        since = self._counters.waits_since
        return 0.0 if since is None else time.perf_counter() - since

    def counting(self) -> AbstractContextManager[Counts]:
        """Count the calls of this rank within a ``with`` block: how many, what they moved, and when it waited."""
        return self._counters.counting()

    @abstractmethod
    def allreduce_(self, array: np.ndarray) -> None:
        """Replace `array` on every rank by the sum of all ranks' arrays."""

    @abstractmethod
    def iallreduce_(self, array: np.ndarray) -> "Pending":
        """Begin `allreduce_`, and return at once; `array` may not be touched before the end."""

    @abstractmethod
    def reduce_scatter(self, array: np.ndarray, shards: Sequence[slice]) -> np.ndarray:
        """Return this rank's shard of the sum of all ranks' arrays; the shards lie one behind the other."""

    @abstractmethod
    def allgatherv_(self, array: np.ndarray, shards: Sequence[slice]) -> None:
        """Fill each shard of `array` from the rank that owns it."""

    @abstractmethod
    def alltoallv(self, array: np.ndarray, shards: Sequence[slice]) -> np.ndarray:
        """Return this rank's shard of every rank's array, as rows: (size, length of the shard)."""

    @abstractmethod
    def gatherv(self, shard: np.ndarray, shards: Sequence[slice]) -> np.ndarray | None:
        """Return the ranks' shards joined, on rank 0; None on the others."""

    @abstractmethod
    def scatterv(self, whole: np.ndarray | None, shard: np.ndarray, shards: Sequence[slice]) -> None:
        """Fill `shard` from rank 0's `whole`, which is None on the other ranks."""

    @abstractmethod
    def bcast_(self, array: np.ndarray) -> None:
        """Replace `array` on every rank by that of rank 0."""

    @abstractmethod
    def allgather(self, value: T) -> list[T]:
        """Return the small picklable `value` of every rank, in rank order, on every rank."""

    @abstractmethod
    def shrink(self, able: bool) -> None:
        """Leave the dead behind, after a `RankLostError`: `rank` and `size` are other ones then.

        All that are alive must call. They stay in their order, but those come first that are `able` to do what is rank
        0's.
        """

    @abstractmethod
    def revoke(self) -> None:
        """Let all calls of all ranks raise `RankLostError`, until they `shrink`; any thread may call."""

    @abstractmethod
    def agree(self) -> None:
        """Return on all ranks, or, if one has died or has noticed that one has, raise `RankLostError` on all of them.

        Other calls may return on some ranks and raise on others, and what they have returned need not be right where a
        rank has died meanwhile. So nothing of it may be kept before this.
        """

    @abstractmethod
    def has_lost(self) -> bool:
        """Whether a rank has died, as far as this one knows; not collective."""

    @abstractmethod
    def abort(self, status: int) -> None:
        """End all ranks at once."""

    def on_rank_0(self, function: Callable[[], T]) -> T:
        """Call `function` on rank 0 only, and return its small picklable result on every rank.

        If it raises, so do all ranks, as for `on_every_rank`.
        """
        return cast(T, self.allgather(self.on_every_rank(function if self.rank == 0 else lambda: None))[0])

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
        reports = self.allgather(failure if failure is None or isinstance(failure, ReportedError) else "failed")
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


class Watching(Protocol):
    """What watches over the time that phases take; see `watchdog.Watchdog`."""

    timeout_s: float

    def phase(self, name: str, limit_s: float = 0.0) -> AbstractContextManager[None]:
        """Limit the time of a ``with`` block."""
        ...

    def left_behind(self, ranks: list[int]) -> None:
        """Learn which ranks have died and are known to have."""
        ...

    def close(self) -> None:
        """Stop watching: this rank ends."""
        ...


class NotWatching:
    """The watchdog of a single process, which hangs at nobody's cost."""

    timeout_s = 0.0

    def phase(self, name: str, limit_s: float = 0.0) -> AbstractContextManager[None]:
        """Limit nothing."""
        return nullcontext()

    def left_behind(self, ranks: list[int]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Pending(Protocol):
    """A nonblocking all-reduce; it proceeds whenever it is tested or waited for."""

    def test(self) -> bool:
        """Let it proceed; return whether it has ended."""
        ...

    def wait(self) -> None:
        """Wait for the end."""
        ...


class Done:
    """An all-reduce of one rank, which is done before it begins."""

    def test(self) -> bool:
        """Return True."""
        return True

    def wait(self) -> None:
        """Return at once."""


class SerialComm(Comm):
    """A communicator of one rank: it has nothing to wait for, and nothing to count."""

    rank, size = 0, 1
    mpi_version = "none (one process)"

    def allreduce_(self, array: np.ndarray) -> None:
        """Do nothing: the sum over one rank is there already."""

    def iallreduce_(self, array: np.ndarray) -> Pending:
        """Do nothing."""
        return Done()

    def reduce_scatter(self, array: np.ndarray, shards: Sequence[slice]) -> np.ndarray:
        """Return the array: the only shard is all of it."""
        return array

    def allgatherv_(self, array: np.ndarray, shards: Sequence[slice]) -> None:
        """Do nothing."""

    def alltoallv(self, array: np.ndarray, shards: Sequence[slice]) -> np.ndarray:
        """Return the array as that of one rank."""
        return array[None]

    def gatherv(self, shard: np.ndarray, shards: Sequence[slice]) -> np.ndarray | None:
        """Return the shard, which is all."""
        return shard

    def scatterv(self, whole: np.ndarray | None, shard: np.ndarray, shards: Sequence[slice]) -> None:
        """Take the whole."""
        shard[...] = whole

    def bcast_(self, array: np.ndarray) -> None:
        """Do nothing."""

    def allgather(self, value: T) -> list[T]:
        """Return [value]."""
        return [value]

    def shrink(self, able: bool) -> None:
        """Do nothing: it has lost nobody."""

    def revoke(self) -> None:
        """Do nothing: there is no call that waits."""

    def agree(self) -> None:
        """Return."""

    def has_lost(self) -> bool:
        """Return False."""
        return False

    def abort(self, status: int) -> None:
        """End this process."""
        raise SystemExit(status)
