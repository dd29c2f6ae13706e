"""Reduction in buckets, while the backward pass goes on.

Parameters lie in forward order, so gradients become final from the tail of the flat buffer. As soon as a bucket of them
is final on this rank, its all-reduce begins. MPI does nothing by itself, though: a started reduction proceeds only
while some call looks at it. A thread looks every half millisecond; NumPy's matrix products let it run beside them.

All ranks start the same buckets in the same order, so the sums are those of `AllReduce` up to the order in which the
MPI library adds them.
"""

import threading
import time

import numpy as np

from dist_llm.config import ParallelConfig
from dist_llm.parallel.comm import Comm, Pending
from dist_llm.parallel.reduction import Reduction, all_reduce_bytes

LOOK_INTERVAL_S = 0.0005
CALIBRATIONS = 3


class OverlappedAllReduce(Reduction):
    """All-reduces of buckets, started from the tail as the last backward pass goes along."""

    def __init__(self, comm: Comm, data: np.ndarray, grad: np.ndarray, config: ParallelConfig) -> None:
        super().__init__(comm, data, grad, config)
        self._bucket = max(1, config.bucket_bytes // grad.itemsize)
        self._final = grad.size  # from here on all is final, and its reduction begun
        self._pending: list[Pending] = []
        self._blocking_s = 0.0
        # MPI calls of the two threads never meet.
        self._lock = threading.Lock()
        self._work, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._look, name="MPI progress", daemon=True)
        if comm.size > 1 and comm.any_thread:
            self._thread.start()

    def begin(self) -> None:
        """Start a step."""
        super().begin()
        self._final = self.grad.size

    def ready(self, offset: int) -> None:
        """Begin the reductions of all whole buckets from `offset` on, and at the end of what is left."""
        while self._final - offset >= self._bucket or (offset == 0 and self._final > 0):
            start = max(offset, self._final - self._bucket)
            with self._lock:
                self._pending.append(self.comm.start_all_reduce_(self.grad[start : self._final]))
            self._final = start
        self._work.set()

    def reduce(self) -> None:
        """Wait for all buckets."""
        self.ready(0)
        self._work.clear()
        self._exposed(self._wait)
        self.bytes_sent += all_reduce_bytes(self.grad.nbytes, self.comm.size)

    def _wait(self) -> None:
        with self._lock:
            for pending in self._pending:
                pending.wait()
            self._pending.clear()

    def _look(self) -> None:
        while not self._ended:
            self._work.wait()
            with self._lock:
                for pending in self._pending:
                    if not pending.test():
                        break  # libraries reduce in order: the later ones have nothing to do yet
            time.sleep(LOOK_INTERVAL_S)

    def metrics(self) -> dict[str, float]:
        """Add which share of a blocking all-reduce's time, as measured at the start, was not waited for."""
        if not self._blocking_s:
            return super().metrics()
        return super().metrics() | {"comm_hidden": max(0.0, 1 - self.exposed_s / self._blocking_s)}

    def restore(self, state: dict[str, np.ndarray], moments: dict[str, np.ndarray]) -> None:
        """Measure what there is to hide."""
        if self.comm.size > 1:
            seconds = []
            for _ in range(CALIBRATIONS):
                self.comm.gather(None)  # all begin together
                start = time.perf_counter()
                self.comm.all_reduce_(self.grad)
                seconds.append(time.perf_counter() - start)
            self._blocking_s = min(seconds)

    def close(self) -> None:
        """End the thread."""
        self._ended = True
        self._work.set()
        if self._thread.is_alive():
            self._thread.join()
