import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from dist_llm.config import Config
from dist_llm.errors import RunError, UserError
from dist_llm.measuring.jobs import Launcher, choose_launcher, slurm_cores
from dist_llm.scalability.job import run_job
from dist_llm.scalability.operations import BATCHES, Timings
from dist_llm.scalability.points import Point
from dist_llm.scalability.training_run import Training

SRUN = """#!{python}
# Stands in for srun: notes how it was called, and starts one process.
import os, sys
with open({log!r}, "a") as log:
    print(*sys.argv[1:sys.argv.index({python!r})], os.environ["OMP_NUM_THREADS"], file=log)
os.execv({python!r}, sys.argv[sys.argv.index({python!r}):])
"""
TASK = {"config": asdict(Config()), "parameters": 256}


@pytest.mark.parametrize(("text", "cores"), [("2(x3)", 6), ("2(x3),1", 7), ("16", 16), ("8,4(x2),1", 17), ("", None)])
def test_cores_of_an_allocation(text, cores):
    assert slurm_cores({"SLURM_JOB_CPUS_PER_NODE": text}) == cores
    assert slurm_cores({}) is None


def test_srun_inside_an_allocation_and_mpirun_elsewhere(tmp_path, monkeypatch):
    srun, log = tmp_path / "srun", tmp_path / "log"
    srun.write_text(SRUN.format(python=sys.executable, log=str(log)))
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert not choose_launcher(None).by_slurm
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    launcher = choose_launcher(None)
    assert launcher.by_slurm
    assert launcher.command(4, 2)[-4:] == ["-n", "4", "-c", "2"]
    answer = run_job(launcher, Point(1, 2), TASK, Timings)
    assert len(answer.batches_s) == len(answer.sizes_bytes)
    assert len(answer.batches_s[0]) == BATCHES
    assert min(answer.batches_s[0]) > 0
    assert answer.hosts == 1
    assert log.read_text() == "--mpi=pmix --kill-on-bad-exit=1 -n 1 -c 2 2\n"


def test_the_users_launcher(tmp_path):
    assert choose_launcher(f"'{sys.executable}' --hostfile h").words == (sys.executable, "--hostfile", "h")
    for wish in ("", "no-such-program -x"):
        with pytest.raises(UserError, match="--launcher: there is no program"):
            choose_launcher(wish)


def test_without_a_launcher_one_process_runs_and_several_are_refused():
    launcher = Launcher(())
    assert run_job(launcher, Point(1, 1), TASK, Timings).add_s_per_byte > 0
    with pytest.raises(UserError, match="there is no mpirun"):
        run_job(launcher, Point(2, 1), TASK, Timings)


@pytest.mark.mpirun
def test_a_job_that_fails_tells_why():
    config = asdict(Config().replace({"data": {"shards": "/nowhere"}}))
    bad = {"config": config, "least_steps": 1, "least_s": 0.0}
    with pytest.raises(RunError, match="error: /nowhere holds no prepared shards"):
        run_job(choose_launcher(), Point(2, 1), bad, Training)


def test_a_job_that_says_nothing_is_a_failure(tmp_path):
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexit 0\n")
    silent.chmod(0o755)
    with pytest.raises(RunError, match="ended without a word"):
        run_job(Launcher((str(silent),)), Point(1, 1), TASK, Timings)
    killed = tmp_path / "killed"
    killed.write_text(f"#!/bin/sh\necho 'measured: {json.dumps({})}'\nkill -9 $$\n")
    killed.chmod(0o755)
    with pytest.raises(RunError):
        run_job(Launcher((str(killed),)), Point(1, 1), TASK, Timings)
    assert Path(killed).exists()
