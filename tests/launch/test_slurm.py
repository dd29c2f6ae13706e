"""launch/slurm.sbatch with stand-ins for Slurm's programs: what it starts, how it stops, and when it queues again."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dist_llm.config import Config
from dist_llm.settings import to_toml
from dist_llm.training.checkpoint import save_checkpoint

ROOT = Path(__file__).parent.parent.parent
# It starts no ranks, but does what they do: it writes the mark of the run's end, at once or when it is asked to stop.
SRUN = r"""#!/bin/sh
[ "$1" != --mpi=list ] || { echo "$MPI_TYPES"; exit; }
for word; do case $word in --train.run_dir=*) run=${word#*=} ;; esac; done
end() {
    mkdir -p "$run"
    [ -z "$MARK" ] || echo "{\"how\": \"$1\", \"step\": 5, \"max_steps\": 9}" > "$run/end.json"
    exit "$STATUS"
}
trap 'end stopped' USR1
echo "$(basename "$0")" "$@" >> "$LOG"
[ -n "$LONG" ] || end finished
while :; do sleep 0.05; done
"""
SCONTROL = """#!/bin/sh
[ "$1" != show ] || echo "JobId=7 JobState=$STATE Reason=None"
echo scontrol "$@" >> "$LOG"
"""
PYTHON = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def sbatch(tmp_path):
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, text in (("srun", SRUN), ("mpirun", SRUN), ("scontrol", SCONTROL), ("python", PYTHON)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    jobs = []

    def sbatch(*arguments: str, **changes: str) -> subprocess.Popen:
        env = os.environ | {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "7", "SLURM_NTASKS": "3"}
        env |= {"LOG": str(tmp_path / "log"), "PYTHONPATH": str(ROOT), "MPI_TYPES": "none\npmi2\npmix_v5"}
        env |= {"LONG": "", "MARK": "yes", "STATUS": "0", "STATE": "RUNNING"}
        script = ROOT / "launch" / "slurm.sbatch"
        jobs.append(subprocess.Popen(["bash", script, *arguments], env=env | changes, cwd=tmp_path))
        return jobs[-1]

    yield sbatch
    for job in jobs:
        if job.poll() is None:
            job.kill()


def log(tmp_path: Path) -> list[list[str]]:
    """What was started, in words, once something was."""
    deadline = time.monotonic() + 20
    while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [line.split() for line in (tmp_path / "log").read_text().splitlines()]


def test_the_first_job_starts_and_the_next_continues(sbatch, tmp_path):
    assert sbatch("runs/big", "--train.max_steps=9").wait(20) == 0
    (words,) = log(tmp_path)
    assert words[:5] == ["srun", "--mpi=pmix", "--kill-on-bad-exit=1", "-n", "3"]
    assert words[6:8] == ["-m", "dist_llm.train"]
    assert words[8:] == ["--train.run_dir=runs/big", "--train.run_dir=runs/big", "--train.max_steps=9"]
    (tmp_path / "log").unlink()
    run = tmp_path / "runs/big"
    (run / "config.toml").write_text(to_toml(Config()))
    (run / "end.json").write_text('{"how": "stopped", "step": 5, "max_steps": 9}')
    save_checkpoint(run, {"model": {"weight": np.zeros(3, np.float32)}}, {"step": 5})
    assert sbatch("runs/big", "--train.max_steps=9").wait(20) == 0
    assert log(tmp_path)[0][-2:] == ["--resume", "runs/big/checkpoints/step-00000005"]


def test_a_job_that_died_before_its_first_checkpoint_is_started_anew(sbatch, tmp_path):
    (tmp_path / "runs/big").mkdir(parents=True)
    (tmp_path / "runs/big/config.toml").write_text("# of a job that died")
    assert sbatch("runs/big").wait(20) == 0
    assert "--resume" not in log(tmp_path)[0]
    assert (tmp_path / "runs/big.abandoned-1/config.toml").exists()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
@pytest.mark.parametrize(("state", "again"), [("RUNNING", True), ("COMPLETING", False)])
def test_a_signal_reaches_the_ranks_and_a_run_that_has_not_finished_queues_again(
    sbatch, tmp_path, number, state, again
):
    """But not when the job was cancelled."""
    job = sbatch("runs/big", LONG="yes", STATE=state)
    log(tmp_path)
    time.sleep(0.3)
    job.send_signal(number)
    assert job.wait(20) == (0 if again else 75)
    assert (["scontrol", "requeue", "7"] in log(tmp_path)) == again


def test_ranks_that_crash_when_they_are_asked_to_stop_do_not_queue_again(sbatch, tmp_path):
    job = sbatch("runs/big", LONG="yes", MARK="", STATUS="3")
    log(tmp_path)
    time.sleep(0.3)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(20) == 3
    assert len(log(tmp_path)) == 1


def test_a_failure_is_passed_on(sbatch):
    assert sbatch("runs/big", STATUS="2", MARK="").wait(20) == 2
    assert sbatch().wait(20) != 0


def test_without_pmix_mpirun_starts_the_ranks(sbatch, tmp_path):
    assert sbatch("runs/big", MPI_TYPES="none\npmi2").wait(20) == 0
    assert log(tmp_path)[0][:3] == ["mpirun", "-n", "3"]


def test_a_sweep_is_an_array(sbatch, tmp_path):
    (tmp_path / "sweep.txt").write_text("--optim.lr=1e-3\n--optim.lr=2e-3 --model.dim=192\n")
    job = sbatch("runs/sweep", "--train.max_steps=9", SLURM_ARRAY_TASK_ID="2", SWEEP="sweep.txt")
    assert job.wait(20) == 0
    assert (tmp_path / "runs/sweep/2/end.json").exists()
    assert log(tmp_path)[0][-3:] == ["--train.max_steps=9", "--optim.lr=2e-3", "--model.dim=192"]
    assert sbatch("runs/sweep", SLURM_ARRAY_TASK_ID="2").wait(20) != 0
