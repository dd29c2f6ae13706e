"""Which cores a rank may use, and how many BLAS threads it therefore runs."""

import os
import platform
from dataclasses import dataclass

import psutil
from threadpoolctl import ThreadpoolController

from dist_llm.parallel.comm import Comm


@dataclass(frozen=True)
class Placement:
    """How a rank sits on its host.

    Attributes
    ----------
    host : str
    cores : tuple of int
        Numbers of the cores the rank may run on: its affinity mask.
    threads : int
        BLAS threads it runs.
    blas : str
        Name and version of the BLAS library that NumPy has loaded.
    """

    host: str
    cores: tuple[int, ...]
    threads: int
    blas: str


def place(comm: Comm, threads: int | None) -> Placement:
    """Set the number of BLAS threads of this process for good.

    Parameters
    ----------
    comm : Comm
    threads : int or None
        The user's wish; None: the cores of the mask, divided among the ranks of this host that share it. Two ranks
        with two threads each on two cores are three times slower than with one thread each. The hardware threads of one
        core share its arithmetic units, and count as one.
    """
    host = platform.node()
    # macOS knows no affinity.
    cores = tuple(sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
    sharing = comm.gather((host, cores)).count((host, cores))
    controller = ThreadpoolController().select(user_api="blas")
    hardware_threads = (psutil.cpu_count() or 1) // (psutil.cpu_count(logical=False) or psutil.cpu_count() or 1)
    chosen = threads or max(1, len(cores) // max(1, hardware_threads) // sharing)
    controller.limit(limits=chosen)
    libraries = {f"{lib['internal_api']} {lib.get('version') or ''}".strip() for lib in controller.info()}
    return Placement(host, cores, chosen, ", ".join(sorted(libraries)) or "unknown BLAS")


def memory_bytes() -> int:
    """Return the resident memory of this process."""
    return psutil.Process().memory_info().rss
