"""Whether all ranks run the same program: the same code, libraries and arguments.

Hosts that were set up one by one drift apart, and ranks that compute otherwise are seldom told by an exception: their
replicas come apart after hours, or not visibly at all.
"""

import hashlib
import shlex
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dist_llm.errors import UserError
from dist_llm.parallel.comm import Comm

PACKAGE = Path(__file__).parent.parent


def check_same_program(comm: Comm, argv: Sequence[str]) -> None:
    """Compare every rank's program with rank 0's; collective.

    Configuration files are not compared, as rank 0 alone reads them.

    Raises
    ------
    UserError
        On every rank alike, naming the ranks that differ, their hosts, and in what.
    """
    if comm.size == 1:
        return
    programs = comm.allgather((socket.gethostname(), program(comm, argv)))
    (first_host, first), ranks_of = programs[0], dict[str, list[int]]()
    for rank, (host, own) in enumerate(programs):
        differences = [f"{what} {own[what]} instead of {first[what]}" for what in first if own[what] != first[what]]
        if differences:
            ranks_of.setdefault(f"on {host}: {', '.join(differences)}", []).append(rank)
    if ranks_of:
        found = "; ".join(
            f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))} {what}" for what, ranks in ranks_of.items()
        )
        raise UserError(
            f"not all ranks run the same program as rank 0 on {first_host}: {found}; install and start the same "
            "everywhere",
            agreed=True,
        )


def program(comm: Comm, argv: Sequence[str]) -> dict[str, str]:
    """Return what must be the same on all ranks, by name."""
    return {
        "dist_llm's code": code_fingerprint(PACKAGE),
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "NumPy": np.__version__,
        "MPI": comm.mpi_version,
        "arguments": f"[{shlex.join(argv)}]",
    }


def code_fingerprint(package: Path) -> str:
    """Return the first digits of the SHA-256 over a package's Python files and their names."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
