"""How long the operation takes that a strategy uses: measured alone, on arrays of several sizes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np

from dist_llm.config import Config
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.parallel.registry import STRATEGIES
from dist_llm.parallel.strategy import Traffic
from dist_llm.parallel.topology import Topology
from dist_llm.partition import partition
from dist_llm.scalability.overlap import Beside
from dist_llm.scalability.overlap_timing import measure_beside

BATCHES, BATCH_S = 7, 0.03


@dataclass(frozen=True)
class Timings:
    """Seconds of a strategy's operation on a number of ranks, for arrays of some sizes."""

    traffic: Traffic  # of a step on so many ranks
    sizes_bytes: list[int]
    batches_s: list[list[float]]  # of each size: the mean of every batch, on the slowest rank
    add_s_per_byte: float  # of adding arrays on one rank, with as many at work
    mpi: str
    hosts: int = 1
    oversubscribed: bool = False  # ranks took turns on cores: their times say nothing of others
    beside: Beside | None = None  # what goes on beside a backward pass: of several hosts, where it hides something


def measure_operation(comm: Comm, config: Config, parameters: int) -> Timings:
    """Time the operation by which a strategy reduces gradients of so many parameters, and additions; collective."""
    oversubscribed = any(comm.allgather(bool(place(comm, 1).warning)))
    topology = Topology.of(comm)
    traffic = STRATEGIES[config.parallel.strategy].load().traffic(config.parallel, parameters, topology)
    sizes_bytes = calibration_sizes(traffic)
    batches_s = [_time(comm, _prepared(comm, traffic.operation, size)) for size in sizes_bytes]
    total, other = (np.ones(max(1, sizes_bytes[-1] // 4), np.float32) for _ in range(2))
    add_s = median(_time(comm, lambda: np.add(total, other, out=total)))
    beside = measure_beside(comm, config) if traffic.overlaps and topology.hosts > 1 else None
    return Timings(
        traffic, sizes_bytes, batches_s, add_s / total.nbytes, comm.mpi_version, topology.hosts, oversubscribed, beside
    )


def calibration_sizes(traffic: Traffic) -> list[int]:
    """Return the bytes of the operations to be timed, from small ones to those of the model, each a multiple of 4."""
    message = traffic.message_bytes
    return sorted({1 << 10, 1 << 13, 1 << 16, 1 << 19, -(-message // 4) * 4, -(-message // 16) * 4})


def _prepared(comm: Comm, operation: str, size_bytes: int) -> Callable[[], object]:
    """Return the operation on an array of its own: of numbers, or of bytes that encode some."""
    dtype = np.dtype(np.uint8 if operation == "all-to-all, all-gather" else np.float32)
    array = np.zeros(max(1, size_bytes // dtype.itemsize), dtype)
    shards = partition(array.size, comm.size)
    return {
        "all-to-all, all-gather": lambda: (comm.alltoallv(array, shards), comm.allgatherv_(array, shards)),
        "reduce-scatter, all-gather": lambda: (comm.reduce_scatter(array, shards), comm.allgatherv_(array, shards)),
        "nonblocking all-reduce": lambda: comm.iallreduce_(array).wait(),
        "all-reduce": lambda: comm.allreduce_(array),
    }[operation]


def _time(comm: Comm, operate: Callable[[], object]) -> list[float]:
    """Return the mean seconds of an operation in each of some batches, one behind the other, on the slowest rank."""

    def batch(n: int) -> float:
        comm.allreduce_(np.zeros(1))  # all begin together
        start_s = time.perf_counter()
        for _ in range(n):
            operate()
        return (time.perf_counter() - start_s) / n

    n = max(1, int(BATCH_S / max(comm.allgather(batch(3)))))
    return [max(comm.allgather(batch(n))) for _ in range(BATCHES)]
