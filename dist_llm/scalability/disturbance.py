"""What else the CPUs did during a measurement: other programs, and other virtual machines (steal time).

Linux counts for each CPU the time that it worked, and for each process the time that it got; what is left when our own
processes are subtracted was somebody else's. A neighbour who only shares the caches or the memory is not seen so.
"""

import time
from collections.abc import Collection
from typing import Any

import psutil

from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import Placement

BUSY = ("user", "nice", "system", "irq", "softirq")


class Witness:
    """Takes notes on the CPUs from its making on.

    Parameters
    ----------
    cpus : collection of int
        Their numbers.
    """

    def __init__(self, cpus: Collection[int]) -> None:
        self._cpus = cpus
        self._start, self._own_start, (self._busy, self._steal) = time.perf_counter(), time.process_time(), self._read()

    def _read(self) -> tuple[float, float]:
        counters = [times for cpu, times in enumerate(psutil.cpu_times(percpu=True)) if cpu in self._cpus]
        busy = sum(getattr(times, name, 0.0) for times in counters for name in BUSY)
        return busy, sum(getattr(times, "steal", 0.0) for times in counters)

    def report(self) -> dict[str, float]:
        """Return the CPU seconds of all (``busy``), of this process (``own``) and stolen, and those there were."""
        busy, steal = self._read()
        return {
            "busy": busy - self._busy,
            "own": time.process_time() - self._own_start,
            "stolen": steal - self._steal,
            "available": (time.perf_counter() - self._start) * len(self._cpus),
        }


def cpus_of_host(comm: Comm, placement: Placement) -> set[int]:
    """Return the CPUs that the ranks of this rank's host use; collective."""
    return {cpu for other in comm.gather(placement) if other.host == placement.host for cpu in other.cores}


def disturbance(comm: Comm, placement: Placement, report: dict[str, float]) -> dict[str, float]:
    """Return, of the host where it is worst, which share of the CPUs' time others had; collective.

    Returns
    -------
    dict
        ``other``: other programs; ``stolen``: other virtual machines.
    """
    hosts: dict[str, list[dict[str, float]]] = {}
    for host, one in comm.gather((placement.host, report)):
        hosts.setdefault(host, []).append(one)
    return max((_shares(reports) for reports in hosts.values()), key=lambda shares: sum(shares.values()))


def _shares(reports: list[dict[str, Any]]) -> dict[str, float]:
    """Of the reports of one host's ranks, each of which saw the same CPUs."""
    first = reports[0]
    other = first["busy"] - sum(report["own"] for report in reports)
    return {"other": max(0.0, other / first["available"]), "stolen": max(0.0, first["stolen"] / first["available"])}
