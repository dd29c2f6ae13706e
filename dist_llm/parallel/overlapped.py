"""All-reduce in buckets, while the backward pass goes on.

Parameters lie in forward order, so gradients become final from the tail of the flat buffer. As soon as a bucket of them
is final on this rank, its all-reduce begins. MPI does nothing by itself, though: a started all-reduce proceeds only
while some call looks at it. A thread looks every half millisecond; NumPy's matrix products let it run beside them.

All ranks start the same buckets in the same order, so the sums are those of `Blocking` up to the order in which the
MPI library adds them.

How large buckets are is chosen for the ranks and their network. Of m buckets, each takes L + T / m seconds: the latency
of an all-reduce, and a share of the time that all bytes take. They become final one by one along a backward pass of W
seconds, and go one behind the other. The last one ends

    max(W + L + T / m, W / m + m L + T)

after that pass began: few buckets leave much for its end, many cost latency. W is not known, unless it were timed, and
sums must not depend on timings. For W = T, m = sqrt(T / L) is best; for no other W does the end then come more than a
third later than with the best power of two. That buckets wait for each other is a cautious assumption: MPI lets the
messages of several go at once.
"""

import contextlib
import threading
import time

from dist_llm.config import ParallelConfig
from dist_llm.errors import RankLostError
from dist_llm.parallel.comm import Pending
from dist_llm.parallel.strategy import Strategy, Traffic
from dist_llm.parallel.topology import Topology

LOOK_INTERVAL_S = 0.0005
CALIBRATIONS = 3
MAX_BUCKETS = 4096  # each costs tens of microseconds, however small it is: with one per gradient no step would end


class Overlapped(Strategy):
    """All-reduces of buckets, started from the tail as the last backward pass goes along."""

    def _setup(self) -> None:
        topology = Topology.of(self.comm)
        size = bucket_bytes(self.config, self.grad.nbytes, topology)
        self._bucket = size // self.grad.itemsize
        chosen = "as --parallel.bucket_bytes says" if self.config.bucket_bytes else f"chosen for {topology}"
        self.buckets = f"{-(-self.grad.nbytes // size):,} of {_described(min(size, self.grad.nbytes))}, {chosen}"
        self._reduced_from = self.grad.size  # every gradient at or after it is final, and its reduction begun
        self._started: list[Pending] = []  # in this step, and how many of them are seen to have ended
        self._n_ended = 0
        # MPI calls of the two threads never meet.
        self._lock = threading.Lock()
        self._work, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._look, name="MPI progress", daemon=True)
        if self.comm.size > 1:
            self.blocking_s = min(self._time_blocking() for _ in range(CALIBRATIONS))
            if self.comm.any_thread:
                self._thread.start()

    def _time_blocking(self) -> float:
        """Return the seconds of a blocking all-reduce, which are to be hidden; collective."""
        self.comm.allgather(None)  # all begin together
        start = time.perf_counter()
        self.comm.allreduce_(self.grad)
        return time.perf_counter() - start

    def begin(self) -> None:
        """Start a step."""
        super().begin()
        self._reduced_from = self.grad.size

    def on_grad_ready(self, offset: int) -> None:
        """Begin the all-reduces of all whole buckets at or after `offset`, and at offset 0 that of the rest."""
        while self._reduced_from - offset >= self._bucket or (offset == 0 and self._reduced_from > 0):
            start = max(offset, self._reduced_from - self._bucket)
            with self._lock:
                self._started.append(self.comm.iallreduce_(self.grad[start : self._reduced_from]))
            self._reduced_from = start
        self._work.set()

    def reduce(self) -> None:
        """Wait for all buckets, also for those that have ended: ranks compare what each of them waited for each."""
        self.on_grad_ready(0)
        self._work.clear()
        with self._lock:
            for started in self._started:
                started.wait()
            self._started.clear()
            self._n_ended = 0

    def _look(self) -> None:
        while not self._ended:
            self._work.wait()
            with self._lock, contextlib.suppress(RankLostError):  # the main thread finds that out by itself
                # Libraries reduce in order: behind one that goes on the others have nothing to do yet.
                while self._n_ended < len(self._started) and self._started[self._n_ended].test():
                    self._n_ended += 1
            time.sleep(LOOK_INTERVAL_S)

    def close(self) -> None:
        """End the thread."""
        self._ended = True
        self._work.set()
        if self._thread.is_alive():
            self._thread.join()

    @classmethod
    def traffic(cls, config: ParallelConfig, n_parameters: int, topology: Topology) -> Traffic:
        """Return the buckets."""
        n_bytes = 4 * n_parameters
        messages = -(-n_bytes // bucket_bytes(config, n_bytes, topology))
        return Traffic("nonblocking all-reduce", -(-n_bytes // messages), messages, overlaps=True)


def bucket_bytes(config: ParallelConfig, n_bytes: int, topology: Topology) -> int:
    """Return the size of a bucket: what is configured or chosen, or more if a gradient had too many of them."""
    wanted = config.bucket_bytes or chosen_bytes(topology, n_bytes)
    return 4 * max(1, wanted // 4, -(-n_bytes // (4 * MAX_BUCKETS)))


def chosen_bytes(topology: Topology, n_bytes: int) -> int:
    """Return the power of two that suits a gradient of so many bytes, as said above."""
    latency_s = topology.all_reduce_s(0)
    transfer_s = topology.all_reduce_s(n_bytes) - latency_s

    def cost_s(size: int) -> float:
        messages = -(-n_bytes // size)
        return messages * latency_s + transfer_s / messages

    # Of equals the largest.
    return min((1 << power for power in range(n_bytes.bit_length(), 1, -1)), key=cost_s)


def _described(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.3g} MiB" if n_bytes >= 1 << 20 else f"{n_bytes / 2**10:.3g} KiB"
