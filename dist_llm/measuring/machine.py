"""The machine: what it is, whether it has other things to do, and what disturbed a measurement.

Linux counts for each CPU the time that it worked, and for each process the time that it got; what is left when our own
processes are subtracted was somebody else's: other programs, and other virtual machines (steal time). A neighbour who
only shares the caches or the memory is not seen so. Interrupts belong to nobody: what they take on hosts that are busy
with a network is mostly the ranks' own messages.
"""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from dist_llm import __version__
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.cores import ROOT
from dist_llm.parallel.hosts import first_of_machine
from dist_llm.parallel.placement import Placement

LOOK_S = 1.0
MUCH = 0.1  # of a core
BUSY = ("user", "nice", "system")


@dataclass(frozen=True)
class OtherProcess:
    """A process that used MUCH of a core."""

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
        dist_llm=__version__, host=platform.node(), platform=platform.platform(), cpu=cpu_model(),
        usable_cores=cores, local_cores=placement.threads, affinity=list(placement.cores),
        logical_cpus=psutil.cpu_count(), cpu_quota=placement.quota, frequency_governor=frequency_governor(),
        memory_bytes=psutil.virtual_memory().total,
        python=platform.python_version(), numpy=np.__version__, blas=placement.blas,
        load_average=list(os.getloadavg()), others_before=others,
        busy_before=[busy[cpu] if cpu < len(busy) else 0.0 for cpu in placement.cores],
    )  # fmt: skip


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


def look_around(seconds: float) -> tuple[list[float], list[OtherProcess]]:
    """Return the share of the time that each CPU is busy, and what other processes are at work; this one is idle."""
    processes = [process for process in psutil.process_iter(["name"]) if process.pid != os.getpid()]
    used = [_cores_since_last_asked(process) for process in processes]
    busy = [min(1.0, percent / 100) for percent in psutil.cpu_percent(seconds, percpu=True)]
    used = [_cores_since_last_asked(process) for process in processes]
    others = [
        OtherProcess(str(p.info["name"]), p.pid, cores)
        for p, cores in zip(processes, used, strict=True)
        if cores > MUCH
    ]
    return busy, sorted(others, key=lambda other: -other.cores)


def _cores_since_last_asked(process: psutil.Process) -> float:
    try:
        return float(process.cpu_percent()) / 100
    except psutil.Error:  # it has ended, or belongs to others and is not to be looked at
        return 0.0


@dataclass(frozen=True)
class Disturbance:
    """The shares of the CPUs' time that others had: other programs, and other virtual machines."""

    other: float
    stolen: float


class CpuUsage:
    """What is done on the CPUs of this machine's ranks, from its making on; collective, as is what it tells."""

    def __init__(self, comm: Comm, placement: Placement) -> None:
        self._comm, self._machines = comm, first_of_machine(comm)
        seats = zip(self._machines, comm.allgather(placement.cores), strict=True)
        self._cpus = {cpu for machine, cores in seats if machine == self._machines[comm.rank] for cpu in cores}
        self._start = self._read()

    def _read(self) -> np.ndarray:
        """Return the seconds so far: busy, stolen by other virtual machines, of this process, and all there were."""
        times = [times for cpu, times in enumerate(psutil.cpu_times(percpu=True)) if cpu in self._cpus]
        busy, stolen = (sum(getattr(t, name, 0.0) for t in times for name in names) for names in (BUSY, ("steal",)))
        return np.array([busy, stolen, time.process_time(), time.perf_counter() * len(self._cpus)])

    def disturbance(self) -> Disturbance:
        """Return what others had of the CPUs, on the machine where that is worst."""
        of_machine: dict[int, list[np.ndarray]] = {}
        for machine, used in zip(self._machines, self._comm.allgather(self._read() - self._start), strict=True):
            of_machine.setdefault(machine, []).append(used)
        return max(map(_shares, of_machine.values()), key=lambda shares: shares.other + shares.stolen)


def _shares(ranks: Sequence[np.ndarray]) -> Disturbance:
    """Return the disturbance of one machine, all ranks of which saw the same CPUs."""
    busy, stolen, _, available = ranks[0]
    other = busy - sum(own for _, _, own, _ in ranks)
    return Disturbance(float(max(0.0, other / available)), float(max(0.0, stolen / available)))
