"""Which cores a rank may use, and how many BLAS threads it therefore runs."""

import os
from dataclasses import dataclass

import psutil
from threadpoolctl import ThreadpoolController

from dist_llm.parallel.comm import Comm


@dataclass(frozen=True)
class Placement:
    """How this rank sits on its host.

    Attributes
    ----------
    cores : int
        Cores this process may run on (its affinity mask).
    shared : bool
        Whether other ranks of the host have the same mask.
    threads : int
        BLAS threads this rank runs.
    blas : str
        Name and version of the BLAS library NumPy loaded.
    """

    cores: int
    shared: bool
    threads: int
    blas: str


def place(comm: Comm, threads: int | None) -> Placement:
    """Set the number of BLAS threads of this process for good.

    Parameters
    ----------
    comm : Comm
    threads : int or None
        The user's wish; None: the cores of the mask, divided among the ranks of this host that share it. Two ranks
        with two threads each on two cores are three times slower than with one thread each.
    """
    cores = (
        frozenset(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else frozenset(range(os.cpu_count() or 1))
    )
    # Ranks of one host have one boot time in common; the name of the host alone can be the same in two containers.
    masks = comm.gather((os.uname().nodename, psutil.boot_time(), cores))
    mine = masks[comm.rank]
    sharing = sum(mask == mine for mask in masks)
    chosen = threads or max(1, len(cores) // sharing)
    controller = ThreadpoolController().select(user_api="blas")
    controller.limit(limits=chosen)
    libraries = [f"{lib['internal_api']} {lib.get('version') or ''}".strip() for lib in controller.info()]
    return Placement(len(cores), sharing > 1, chosen, ", ".join(sorted(set(libraries))) or "unknown")


def memory_bytes() -> int:
    """Return the resident memory of this process."""
    return psutil.Process().memory_info().rss
