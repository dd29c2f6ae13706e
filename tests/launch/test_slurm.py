"""launch/slurm.sbatch with a stand-in for srun: what it starts, and that it passes the signal on and waits."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "launch" / "slurm.sbatch"
SRUN = """#!/bin/sh
trap 'echo saved >> "$LOG"; exit ${STATUS:-0}' USR1
echo "$@" >> "$LOG"
[ -n "$LONG" ] || exit ${STATUS:-0}
while :; do sleep 0.05; done
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def sbatch(tmp_path):
    srun = tmp_path / ".venv" / "bin" / "srun"
    srun.parent.mkdir(parents=True)
    srun.write_text(SRUN)
    srun.chmod(0o755)
    jobs = []

    def sbatch(*arguments: str, **changes: str) -> subprocess.Popen:
        env = os.environ | {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "7", "LOG": str(tmp_path / "log")}
        jobs.append(subprocess.Popen(["bash", SCRIPT, *arguments], env=env | {"LONG": ""} | changes, cwd=tmp_path))
        return jobs[-1]

    yield sbatch
    for job in jobs:
        if job.poll() is None:
            job.kill()


def started(tmp_path: Path) -> list[str]:
    """The words that srun was started with, once it was."""
    deadline = time.monotonic() + 10
    while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return (tmp_path / "log").read_text().splitlines()[0].split()


def test_the_first_job_starts_and_the_next_continues(sbatch, tmp_path):
    assert sbatch("runs/big", "--train.max_steps=9").wait(10) == 0
    words = started(tmp_path)
    assert words[words.index("python") :] == [
        "python", "-m", "dist_llm.train", "--train.run_dir=runs/big", "--train.max_steps=9"
    ]  # fmt: skip
    (tmp_path / "log").unlink()
    (tmp_path / "runs/big/checkpoints/step-00000005").mkdir(parents=True)
    assert sbatch("runs/big").wait(10) == 0
    assert started(tmp_path)[-2:] == ["--resume", "runs/big"]


def test_a_job_that_died_before_its_first_checkpoint_is_started_anew(sbatch, tmp_path):
    (tmp_path / "runs/big").mkdir(parents=True)
    (tmp_path / "runs/big/config.toml").write_text("# of a job that died")
    assert sbatch("runs/big").wait(10) == 0
    assert started(tmp_path)[-1] == "--train.run_dir=runs/big"
    assert not (tmp_path / "runs/big").exists()
    assert (tmp_path / "runs/big.before-job-7/config.toml").exists()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
@pytest.mark.parametrize("status", [0, 3])
def test_a_signal_reaches_the_ranks_and_the_job_waits_for_them(sbatch, tmp_path, number, status):
    job = sbatch("runs/big", LONG="yes", STATUS=str(status))
    started(tmp_path)
    time.sleep(0.3)
    job.send_signal(number)
    assert job.wait(10) == status
    assert (tmp_path / "log").read_text().splitlines()[-1] == "saved"


def test_a_failure_is_passed_on(sbatch):
    assert sbatch("runs/big", STATUS="2").wait(10) == 2
    assert sbatch().wait(10) != 0
