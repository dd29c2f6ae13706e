"""What the operating system lets a process use: its affinity mask, hardware threads, and cgroup CPU quotas."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import psutil

ROOT = Path("/")


def affinity_mask() -> tuple[int, ...]:
    """Return the numbers of the CPUs this process may run on; all of them where affinity is not known, as on macOS."""
    return tuple(sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


def physical_cores(cpus: Iterable[int], root: Path = ROOT) -> tuple[tuple[int, ...], ...]:
    """Group CPU numbers by the core they belong to.

    The hardware threads of one core share its arithmetic units, and so count as one core.

    Parameters
    ----------
    cpus : iterable of int
        In ascending order.
    root : Path
        Folder that holds ``sys``.
    """
    cpus = tuple(cpus)
    cores: dict[str, list[int]] = {}
    for cpu in cpus:
        try:
            siblings = (root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
        except OSError:
            # Only their number is known: take neighbours for siblings.
            width = max(1, (psutil.cpu_count() or 1) // (psutil.cpu_count(logical=False) or psutil.cpu_count() or 1))
            return tuple(cpus[start : start + width] for start in range(0, len(cpus), width))
        cores.setdefault(siblings, []).append(cpu)
    return tuple(tuple(core) for core in cores.values())


def usable_cores() -> int:
    """Return how many cores this process may keep busy: those of its mask, or fewer if a quota allows less."""
    return max(1, int(min([len(physical_cores(affinity_mask())), *cpu_quotas().values()])))


def cpu_quotas(root: Path = ROOT) -> dict[str, float]:
    """Return the CPU limits of all cgroups this process is in, from its own up to the root of what it can see.

    A file that is missing or cannot be read is no limit. A limit holds for all processes of the cgroup together.
    See the kernel's ``cgroup-v2.rst`` (``cpu.max``) and, for version 1, ``sched-bwc.rst``.

    Parameters
    ----------
    root : Path
        Folder that holds ``proc`` and ``sys``.

    Returns
    -------
    quotas : dict
        Identity of the cgroup, the same for all processes in it: CPUs (as 1.5).
    """
    mounts = root / "sys/fs/cgroup"
    quotas = {}
    try:
        lines = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
        for _, controllers, path in lines:
            if not controllers:
                hierarchies = [mounts, mounts / "unified"]
            elif "cpu" in controllers.split(","):
                hierarchies = [mounts / "cpu", mounts / controllers]
            else:
                continue
            # A container often sees a path that is the host's, and a mount that begins with its own cgroup: the folders
            # of the path are then missing, and the limit stands at the mount itself.
            below = Path(os.path.normpath("/" + path).lstrip("/"))
            for hierarchy in hierarchies:
                for level in (below, *below.parents):
                    folder = hierarchy / level
                    if (cpus := _quota(folder)) is not None:
                        # The path would not do: in containers it is often "/" for all.
                        status = folder.stat()
                        quotas[f"{status.st_dev}:{status.st_ino}"] = cpus
    except (OSError, ValueError):  # no cgroups, or none that we understand
        return quotas
    return quotas


def _quota(folder: Path) -> float | None:
    """Return the limit that stands in a cgroup's folder; None without one."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = (folder / "cpu.cfs_quota_us").read_text(), (folder / "cpu.cfs_period_us").read_text()
        cpus = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number
        return None
    return cpus if cpus > 0 else None  # -1 is "none" in version 1


def can_bind() -> bool:
    """Return whether this system lets a process choose its CPUs."""
    return hasattr(os, "sched_setaffinity")


def bind(cpus: Iterable[int]) -> bool:
    """Let all threads of this process run on these CPUs only; return whether that was allowed."""
    cpus = set(cpus)
    try:
        os.sched_setaffinity(0, cpus)
    except OSError:
        return False
    # That was this thread. Those of the BLAS and of MPI are there already, with the mask they were started with.
    with contextlib.suppress(FileNotFoundError):
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError):  # it has just ended
                os.sched_setaffinity(int(thread), cpus)
    return True
