"""Which cores a rank uses, and how many BLAS threads it therefore runs."""

import contextlib
import platform
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import psutil
from threadpoolctl import ThreadpoolController

from dist_llm.parallel.comm import Comm
from dist_llm.parallel.cores import affinity_mask, bind, can_bind, cpu_quotas, physical_cores


@dataclass(frozen=True)
class Placement:
    """How a rank sits on its host.

    Attributes
    ----------
    host : str
    cores : tuple of int
        Numbers of the CPUs the rank may run on: its affinity mask, after binding.
    threads : int
        BLAS threads it runs.
    blas : str
        Name and version of the BLAS library that NumPy has loaded.
    bound_by : str
        Who gave the rank cores that are not those of all ranks of its host: "launcher" or "dist_llm"; "" for nobody.
    quota : float or None
        The smallest CPU quota of the cgroups it is in.
    why : str
        Origin of the number of threads.
    warning : str
        Fault of the placement, and what to do about it; "" if it is good.
    """

    host: str
    cores: tuple[int, ...]
    threads: int
    blas: str
    bound_by: str = ""
    quota: float | None = None
    why: str = ""
    warning: str = ""


@dataclass(frozen=True)
class Seat:
    """What a rank finds at its start.

    Attributes
    ----------
    host : str
    cores : tuple of tuple of int
        The cores of its affinity mask; of each, the numbers of its hardware threads.
    quotas : dict
        CPUs by cgroup, as of `cpu_quotas`.
    can_bind : bool
    """

    host: str
    cores: tuple[tuple[int, ...], ...]
    quotas: dict[str, float] = field(default_factory=dict)
    can_bind: bool = True


@dataclass
class _Pool:
    """Something that several ranks share: the cores of a mask, or a cgroup's quota."""

    cpus: float
    what: str
    ranks: list[int] = field(default_factory=list)

    @property
    def usable(self) -> int:
        return max(1, int(self.cpus))

    @property
    def share(self) -> int:
        return max(1, self.usable // len(self.ranks))


def plan(seats: Sequence[Seat], threads: int | None) -> list[Placement]:
    """Return the placement of every rank, with no BLAS yet.

    A rank's threads are the cores of its mask, divided among the ranks of the host that have the same one, or its
    share of a quota if that is less. Ranks with one and the same mask get cores of their own if there are enough.

    Parameters
    ----------
    seats : sequence of Seat
        In rank order.
    threads : int or None
        The user's wish.
    """
    masks: dict[tuple[str, tuple[tuple[int, ...], ...]], _Pool] = {}
    quotas: dict[tuple[str, str], _Pool] = {}
    hosts: dict[str, _Pool] = {}
    for rank, seat in enumerate(seats):
        usable = _count(len(seat.cores), "usable core")
        masks.setdefault((seat.host, seat.cores), _Pool(len(seat.cores), usable)).ranks.append(rank)
        for cgroup, limit in seat.quotas.items():
            quota = f"cgroup quota of {_count(limit, 'CPU')}"
            quotas.setdefault((seat.host, cgroup), _Pool(limit, quota)).ranks.append(rank)
        hosts.setdefault(seat.host, _Pool(0, "")).ranks.append(rank)
    for shared in hosts.values():
        shared.cpus = len({core for rank in shared.ranks for core in seats[rank].cores})
        shared.what = _count(shared.cpus, "usable core")

    placements = []
    for rank, seat in enumerate(seats):
        mask = masks[seat.host, seat.cores]
        tightest = min([mask, *(quotas[seat.host, cgroup] for cgroup in seat.quotas)], key=lambda pool: pool.share)
        chosen = threads or tightest.share
        why = "as --parallel.threads says" if threads else f"{tightest.what} / {_count(len(tightest.ranks), 'rank')}"
        cores, n = seat.cores, len(mask.ranks)
        bound_by = "launcher" if n < len(hosts[seat.host].ranks) else ""
        if seat.can_bind and n > 1 and n * chosen <= len(cores):
            # All cores are given out, also where the ranks have fewer threads: two runs on one machine would else sit
            # on the same few cores.
            i = mask.ranks.index(rank)
            cores = cores[i * len(cores) // n : (i + 1) * len(cores) // n]
            bound_by = "dist_llm"
        cpus = tuple(sorted(cpu for core in cores for cpu in core))
        smallest = min(seat.quotas.values(), default=None)
        placements.append(Placement(seat.host, cpus, chosen, "", bound_by, smallest, why))

    warnings: dict[int, str] = {}
    # The cores of a host last: they say more only where masks overlap and are not the same.
    for pool in (*masks.values(), *quotas.values(), *hosts.values()):
        running = sum(placements[rank].threads for rank in pool.ranks)
        if running > pool.usable and not warnings.keys() & set(pool.ranks):
            warnings |= dict.fromkeys(pool.ranks, _warning(pool, running))
    return [replace(placement, warning=warnings.get(rank, "")) for rank, placement in enumerate(placements)]


def place(comm: Comm, threads: int | None) -> Placement:
    """Set the number of BLAS threads of this process, and its cores where the launcher did not, for good.

    Parameters
    ----------
    comm : Comm
    threads : int or None
        The user's wish; None: the usable cores, divided among the ranks of this host that share them. Two ranks with
        two threads each on two cores are three times slower than with one thread each.
    """
    mask = affinity_mask()
    seat = Seat(platform.node(), physical_cores(mask), cpu_quotas(), can_bind())
    placement = plan(comm.allgather(seat), threads)[comm.rank]
    controller = ThreadpoolController().select(user_api="blas")
    controller.limit(limits=placement.threads)
    if placement.bound_by == "dist_llm" and not bind(placement.cores):
        placement = replace(placement, cores=mask, bound_by="")
    libraries = {f"{lib['internal_api']} {lib.get('version') or ''}".strip() for lib in controller.info()}
    return replace(placement, blas=", ".join(sorted(libraries)) or "unknown BLAS")


def memory_bytes() -> int:
    """Return the resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


def peak_memory_bytes() -> int:
    """Return the most resident memory this process has had."""
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status") as status:
        return 1024 * int(next(line for line in status if line.startswith("VmHWM:")).split()[1])
    # This may be that of the process which has started this one.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # the one unit on which systems do not agree


def _warning(pool: _Pool, running: int) -> str:
    ranks = len(pool.ranks)
    if ranks > pool.usable:
        fewer = f"start at most {_count(pool.usable, 'rank')} there"
        advice = f"{fewer}, with --parallel.threads=1" if running > ranks else fewer
    else:
        advice = f"--parallel.threads={pool.share}{' or fewer ranks' * (ranks > 1)} would be faster"
    return f"{_count(running, 'thread')} of {_count(ranks, 'rank')} take turns ({pool.what}): {advice}"


def _count(n: float, noun: str) -> str:
    return f"{n:g} {noun}{'s' * (n != 1)}"
