"""How long the operations of MPI take here: small and large ones, with nothing else going on."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np

from dist_llm.config import ParallelConfig
from dist_llm.parallel.comm import Comm
from dist_llm.scalability.traffic import traffic
from dist_llm.shares import shares

BATCHES, BATCH_S = 7, 0.03


def measure_all_reduce(comm: Comm, config: ParallelConfig, sizes_bytes: Sequence[int]) -> dict[str, Any]:
    """Time the operation that a way of reduction uses, and the addition of arrays on one rank; collective.

    Returns
    -------
    dict
        ``seconds``, for each size; ``add_s_per_byte``, for arrays of the last of them; ``mpi``.
    """
    operation = traffic(config, 1).operation
    seconds = [_time(comm, _prepared(comm, operation, size)) for size in sizes_bytes]
    total, other = (np.ones(max(1, sizes_bytes[-1] // 4), np.float32) for _ in range(2))
    add_s = _time(comm, lambda: np.add(total, other, out=total))
    return {"seconds": seconds, "add_s_per_byte": add_s / total.nbytes, "mpi": comm.mpi_version}


def _prepared(comm: Comm, operation: str, size_bytes: int) -> Callable[[], object]:
    """Return the operation on an array of its own."""
    if operation == "all-to-all, all-gather":  # of encoded numbers
        array, parts = np.zeros(size_bytes, np.uint8), shares(size_bytes, comm.size)
        return lambda: (comm.all_to_all(array, parts), comm.all_gather_(array, parts))
    array = np.zeros(max(1, size_bytes // 4), np.float32)
    parts = shares(array.size, comm.size)
    if operation == "reduce-scatter, all-gather":
        return lambda: (comm.reduce_scatter(array, parts), comm.all_gather_(array, parts))
    if operation == "started all-reduce":
        return lambda: comm.start_all_reduce_(array).wait()
    return lambda: comm.all_reduce_(array)


def _time(comm: Comm, operate: Callable[[], object]) -> float:
    """Return the seconds of one operation of many, one behind the other, on the slowest rank."""

    def batch(n: int) -> float:
        comm.all_reduce_(np.zeros(1))  # all begin together
        start = time.perf_counter()
        for _ in range(n):
            operate()
        return (time.perf_counter() - start) / n

    n = max(1, int(BATCH_S / max(comm.gather(batch(3)))))
    return median(max(comm.gather(batch(n))) for _ in range(BATCHES))
