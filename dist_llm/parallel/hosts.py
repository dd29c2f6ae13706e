"""Which ranks share a host, and which share a machine."""

import platform
from pathlib import Path

from dist_llm.parallel.comm import Comm


def first_of_host(comm: Comm) -> list[int]:
    """Return, for each rank, the first rank of its host; collective."""
    hosts = comm.allgather((platform.node(), _boot_id()))
    return [hosts.index(host) for host in hosts]


def first_of_machine(comm: Comm) -> list[int]:
    """Return, for each rank, the first rank of its machine; collective.

    Containers are hosts of their own, and those of one machine share its kernel and its processors.
    """
    machines = comm.allgather(_boot_id() or platform.node())
    return [machines.index(machine) for machine in machines]


def _boot_id() -> str:
    """Return what tells this machine from another of the same name, on Linux: two may be called localhost."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        return ""
