"""Processes that measure: the launcher that starts them, their last words, and their end."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

PATIENCE_S = 4.0  # a process that was asked to end gets so long
# Whoever sets these for himself would set them for one way to run and not for another.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def find_mpirun() -> str | None:
    """Return the launcher of this Python's environment, or the one of the PATH; None if there is none."""
    beside = Path(sys.executable).parent
    return shutil.which("mpirun", path=f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}")


def last_words(output: str) -> str:
    """Return the line that says most about why a process ended."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # Our own word counts most; then the first line of what Open MPI says between rulers; then a traceback's last.
    own = [line for line in lines if line.startswith("error")]
    launchers = [line for ruler, line in pairwise(lines) if set(ruler) == {"-"} and set(line) != {"-"}]
    return next(iter(own or launchers or lines[-1:]), "its process ended without a word")


def end(processes: Sequence[subprocess.Popen], patience_s: float = PATIENCE_S) -> None:
    """End processes that were started in sessions of their own: wait, then send signals to all of each session.

    A rank under mpirun is no child of this process: the signals reach it through its launcher.
    """
    for signum in (signal.SIGTERM, signal.SIGKILL):
        if _all_ended(processes, patience_s):
            return
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signum)
        patience_s = PATIENCE_S
    _all_ended(processes, patience_s)


def _all_ended(processes: Sequence[subprocess.Popen], patience_s: float) -> bool:
    try:
        for process in processes:
            process.wait(patience_s)
    except subprocess.TimeoutExpired:
        return False
    return True
