"""Which ranks share a host."""

import platform
from pathlib import Path

from dist_llm.parallel.comm import Comm


def first_of_host(comm: Comm) -> list[int]:
    """Return, for each rank, the first rank of its host; collective."""
    hosts = comm.allgather((platform.node(), _boot_id()))
    return [hosts.index(host) for host in hosts]


def _boot_id() -> str:
    """Return what tells this machine from another of the same name, on Linux: two may be called localhost."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        return ""
