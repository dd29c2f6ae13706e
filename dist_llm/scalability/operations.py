"""How long the operation takes that a strategy uses: measured alone, on arrays of several sizes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np

from dist_llm.config import ParallelConfig
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.hosts import first_of_host
from dist_llm.parallel.registry import STRATEGIES
from dist_llm.parallel.topology import Topology
from dist_llm.partition import partition

BATCHES, BATCH_S = 7, 0.03


@dataclass(frozen=True)
class Timings:
    """Seconds of a strategy's operation on a number of ranks, for arrays of some sizes."""

    sizes_bytes: list[int]
    batches_s: list[list[float]]  # of each size: the mean of every batch, on the slowest rank
    add_s_per_byte: float  # of adding arrays on one rank, with as many at work
    mpi: str
    hosts: int = 1


def measure_operation(comm: Comm, config: ParallelConfig, sizes_bytes: list[int]) -> Timings:
    """Time the operation that a strategy uses, and the addition of arrays of the last size; collective."""
    operation = STRATEGIES[config.strategy].load().traffic(config, 1, Topology.of(comm)).operation
    batches_s = [_time(comm, _prepared(comm, operation, size)) for size in sizes_bytes]
    total, other = (np.ones(max(1, sizes_bytes[-1] // 4), np.float32) for _ in range(2))
    add_s = median(_time(comm, lambda: np.add(total, other, out=total)))
    hosts = len(set(first_of_host(comm)))
    return Timings(sizes_bytes, batches_s, add_s / total.nbytes, comm.mpi_version, hosts)


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
