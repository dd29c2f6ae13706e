"""Threads of this process that share out the rows of what a kernel computes.

Each number is computed as by one thread: how many there are makes no difference in a single bit. Kernels let go of
Python's lock, so these are Python's threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from dist_llm.partition import shard

_pool: ThreadPoolExecutor | None = None
_threads = 1


def use_threads(n: int) -> None:
    """Let kernels run on n threads from now on, the calling one among them."""
    global _pool, _threads
    if _pool is not None:
        _pool.shutdown()
    _pool, _threads = (ThreadPoolExecutor(n - 1, "kernels") if n > 1 else None), n


def share_out(n: int, work: Callable[[slice], object], granularity: int = 1) -> None:
    """Call `work` for all of n rows, in as many slices at once as there are threads.

    Parameters
    ----------
    n : int
    work : callable
    granularity : int
        So many neighbouring rows stay together.
    """
    if _pool is None:
        work(slice(0, n))
        return
    own, *others = (shard(n, thread, _threads, granularity) for thread in range(_threads))
    futures = [_pool.submit(work, rows) for rows in others if rows.start < rows.stop]
    try:
        work(own)
    finally:  # they write into what the caller may let go of
        wait(futures)
    for future in futures:
        future.result()


def share_out_arrays(kernel: Callable[..., object], *arrays: np.ndarray) -> None:
    """Call a kernel with slices of arrays that are equally long."""
    share_out(len(arrays[0]), lambda rows: kernel(*(array[rows] for array in arrays)))
