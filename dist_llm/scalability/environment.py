"""What machine this is, and whether it has other things to do."""

import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from dist_llm import __version__
from dist_llm.parallel.cores import ROOT
from dist_llm.parallel.placement import Placement

LOOK_S = 1.0
MUCH_OF_A_CORE = 0.1


def environment(placement: Placement, cores: int) -> dict[str, Any]:
    """Describe the machine and what runs on it; takes LOOK_S seconds of looking.

    Parameters
    ----------
    placement : Placement
        Of this process: the CPUs it may use and its BLAS.
    cores : int
        That the points may use, on all hosts together.
    """
    cpus, processes = look_around()
    return {
        "dist_llm": __version__,
        "host": platform.node(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "usable_cores": cores,
        "local_cores": placement.threads,
        "affinity": list(placement.cores),
        "logical_cpus": psutil.cpu_count(),
        "cpu_quota": placement.quota,
        "frequency_governor": frequency_governor(),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": placement.blas,
        "load_average": list(os.getloadavg()),
        "busy_before": [cpus.get(cpu, 0.0) for cpu in placement.cores],
        "others_before": processes,
    }


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


def look_around(seconds: float = LOOK_S) -> tuple[dict[int, float], list[dict[str, Any]]]:
    """Look for a while at what the CPUs do, this process being idle.

    Returns
    -------
    cpus : dict
        Share of the time that each CPU was busy, stolen time included.
    processes : list of dict
        ``name``, ``pid`` and ``cores`` of those that used more than a tenth of a core.
    """
    before, cpus_before = _cpu_seconds(), psutil.cpu_times(percpu=True)
    start = time.perf_counter()
    time.sleep(seconds)
    passed_s = time.perf_counter() - start
    cpus = {}
    for cpu, (old, new) in enumerate(zip(cpus_before, psutil.cpu_times(percpu=True), strict=True)):
        idle = new.idle - old.idle + getattr(new, "iowait", 0.0) - getattr(old, "iowait", 0.0)
        cpus[cpu] = min(1.0, max(0.0, 1 - idle / passed_s))
    processes = []
    for key, (name, used_s) in _cpu_seconds().items():
        share = (used_s - before.get(key, (name, 0.0))[1]) / passed_s
        if share > MUCH_OF_A_CORE and key[0] != os.getpid():
            processes.append({"name": name, "pid": key[0], "cores": share})
    return cpus, sorted(processes, key=lambda process: -process["cores"])


def _cpu_seconds() -> dict[tuple[int, float], tuple[str, float]]:
    """Return the name and the CPU seconds of every process, by its number and its start."""
    found = {}
    for process in psutil.process_iter(["pid", "create_time", "name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None:  # some belong to others, and are not to be looked at
            name = str(process.info["name"])
            found[process.info["pid"], process.info["create_time"]] = (name, times.user + times.system)
    return found
