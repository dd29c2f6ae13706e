"""The machine: what it is, whether it has other things to do, and what disturbed a measurement.

Linux counts for each CPU the time that it worked, and for each process the time that it got; what is left when our own
processes are subtracted was somebody else's: other programs, and other virtual machines (steal time). A neighbour who
only shares the caches or the memory is not seen so.
"""

import os
import platform
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from dist_llm import __version__
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.cores import ROOT
from dist_llm.parallel.placement import Placement

LOOK_S = 1.0
MUCH_OF_A_CORE = 0.1
BUSY = ("user", "nice", "system", "irq", "softirq")


@dataclass(frozen=True)
class OtherProcess:
    """A process that used more than MUCH_OF_A_CORE."""

    name: str
    pid: int
    cores: float


@dataclass(frozen=True)
class Machine:
    """A host, and what runs on it before a measurement."""

    dist_llm: str
    host: str
    platform: str
    cpu: str
    usable_cores: int  # on all hosts together
    local_cores: int  # that this process may use here
    affinity: list[int]  # their numbers
    logical_cpus: int | None
    cpu_quota: float | None
    frequency_governor: str | None
    memory_bytes: int
    python: str
    numpy: str
    blas: str
    load_average: list[float]
    busy_before: list[float]  # share of the time that each core of the affinity was busy
    others_before: list[OtherProcess]


def look_at_machine(placement: Placement, cores: int) -> Machine:
    """Describe this machine, after looking at it for LOOK_S seconds, for a process that is placed on it so."""
    busy, others = look_around(LOOK_S)
    return Machine(
        dist_llm=__version__,
        host=platform.node(),
        platform=platform.platform(),
        cpu=cpu_model(),
        usable_cores=cores,
        local_cores=placement.threads,
        affinity=list(placement.cores),
        logical_cpus=psutil.cpu_count(),
        cpu_quota=placement.quota,
        frequency_governor=frequency_governor(),
        memory_bytes=psutil.virtual_memory().total,
        python=platform.python_version(),
        numpy=np.__version__,
        blas=placement.blas,
        load_average=list(os.getloadavg()),
        busy_before=[busy.get(cpu, 0.0) for cpu in placement.cores],
        others_before=others,
    )


def cpu_model(root: Path = ROOT) -> str:
    """Return the name of the processor, as the kernel has it."""
    try:
        lines = (root / "proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def frequency_governor(root: Path = ROOT) -> str | None:
    """Return what sets the cores' frequency (``performance``, ``powersave``, ...); None where that cannot be read."""
    governors = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"))
    try:
        return ", ".join(dict.fromkeys(path.read_text().strip() for path in governors)) or None
    except OSError:
        return None


def look_around(seconds: float) -> tuple[dict[int, float], list[OtherProcess]]:
    """Return the share of the time that each CPU is busy, and what other processes are at work; this one is idle."""
    before, cpus_before = _cpu_seconds(), psutil.cpu_times(percpu=True)
    start = time.perf_counter()
    time.sleep(seconds)
    passed_s = time.perf_counter() - start
    cpus = {}
    for cpu, (old, new) in enumerate(zip(cpus_before, psutil.cpu_times(percpu=True), strict=True)):
        idle = new.idle - old.idle + getattr(new, "iowait", 0.0) - getattr(old, "iowait", 0.0)
        cpus[cpu] = min(1.0, max(0.0, 1 - idle / passed_s))  # stolen time is busy, too
    processes = []
    for key, (name, used_s) in _cpu_seconds().items():
        share = (used_s - before.get(key, (name, 0.0))[1]) / passed_s
        if share > MUCH_OF_A_CORE and key[0] != os.getpid():
            processes.append(OtherProcess(name, key[0], share))
    return cpus, sorted(processes, key=lambda process: -process.cores)


def _cpu_seconds() -> dict[tuple[int, float], tuple[str, float]]:
    """Return the name and the CPU seconds of every process, by its number and its start."""
    found = {}
    for process in psutil.process_iter(["pid", "create_time", "name", "cpu_times"]):
        pid, created, name, times = (process.info[key] for key in ("pid", "create_time", "name", "cpu_times"))
        if times is not None:  # some belong to others, and are not to be looked at
            found[pid, created] = (str(name), times.user + times.system)
    return found


@dataclass(frozen=True)
class CpuSeconds:
    """Seconds of CPU time in a while: of all processes, of this one, of other virtual machines, and what there was."""

    busy: float
    own: float
    stolen: float
    available: float


class CpuUsage:
    """Looks at some CPUs from its making on."""

    def __init__(self, cpus: Collection[int]) -> None:
        self._cpus = cpus
        self._start, self._own_start, (self._busy, self._steal) = time.perf_counter(), time.process_time(), self._read()

    def _read(self) -> tuple[float, float]:
        counters = [times for cpu, times in enumerate(psutil.cpu_times(percpu=True)) if cpu in self._cpus]
        busy = sum(getattr(times, name, 0.0) for times in counters for name in BUSY)
        return busy, sum(getattr(times, "steal", 0.0) for times in counters)

    def so_far(self) -> CpuSeconds:
        """Return what was used since then."""
        busy, steal = self._read()
        own, available = time.process_time() - self._own_start, (time.perf_counter() - self._start) * len(self._cpus)
        return CpuSeconds(busy - self._busy, own, steal - self._steal, available)


@dataclass(frozen=True)
class Disturbance:
    """The shares of the CPUs' time that others had: other programs, and other virtual machines."""

    other: float
    stolen: float


def cpus_of_host(comm: Comm, placement: Placement) -> set[int]:
    """Return the CPUs that the ranks of this rank's host use; collective."""
    return {cpu for other in comm.allgather(placement) if other.host == placement.host for cpu in other.cores}


def disturbance(comm: Comm, placement: Placement, used: CpuSeconds) -> Disturbance:
    """Return the disturbance of the host where it is worst; collective."""
    hosts: dict[str, list[CpuSeconds]] = {}
    for host, one in comm.allgather((placement.host, used)):
        hosts.setdefault(host, []).append(one)
    return max(map(_of_host, hosts.values()), key=lambda shares: shares.other + shares.stolen)


def _of_host(ranks: Sequence[CpuSeconds]) -> Disturbance:
    """Return the disturbance of one host, all ranks of which saw the same CPUs."""
    first = ranks[0]
    other = first.busy - sum(rank.own for rank in ranks)
    return Disturbance(max(0.0, other / first.available), max(0.0, first.stolen / first.available))
