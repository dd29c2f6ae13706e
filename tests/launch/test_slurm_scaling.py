"""launch/slurm-scaling.sh with a stand-in for sbatch: which jobs it hands in, and with which commands."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "launch" / "slurm-scaling.sh"
SBATCH = """#!/bin/sh
for word; do printf '%s\\n' "$word"; done > "$LOG/$(ls "$LOG" | wc -l)"
echo 4$(ls "$LOG" | wc -l)
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def submit(tmp_path):
    """Run the script; return its process, and the arguments of each sbatch."""
    programs, log = tmp_path / ".venv" / "bin", tmp_path / "log"
    programs.mkdir(parents=True)
    log.mkdir()
    (programs / "sbatch").write_text(SBATCH)
    (programs / "sbatch").chmod(0o755)

    def submit(*arguments: str, **changes: str):
        env = os.environ | {"LOG": str(log)} | changes
        done = subprocess.run(["bash", SCRIPT, *arguments], env=env, cwd=tmp_path, capture_output=True, text=True)
        return done, [file.read_text().splitlines() for file in sorted(log.iterdir())]

    return submit


def test_a_job_for_each_point_and_one_that_merges(submit):
    done, jobs = submit("my study", "1x1,2x1,4x2", "--mode=strong", "--model.dim=96", SBATCH="--partition=p --time=9")
    assert done.returncode == 0, done.stderr
    *parts, merge = jobs
    for job, (ranks, threads) in zip(parts, [("2", "1"), ("4", "2")], strict=True):
        assert {f"--ntasks={ranks}", f"--cpus-per-task={threads}", "--exclusive", "--partition=p"} <= set(job)
        assert f"--output=my study/part-{ranks}x{threads}.out" in job
        assert shlex.split(job[job.index("--wrap") + 1]) == [
            "python", "-m", "dist_llm.scaling", "--points=1x1,2x1,4x2", f"--part={ranks}x{threads}", "--out=my study",
            "--mode=strong", "--model.dim=96",
        ]  # fmt: skip
    assert {"--dependency=afterany:41:42", "--ntasks=1", "--time=9"} <= set(merge)
    command = shlex.split(merge[merge.index("--wrap") + 1])
    assert command == ["python", "-m", "dist_llm.scaling", "--merge", "my study", "--out=my study"]


@pytest.mark.parametrize(("arguments", "message"), [((), "usage: "), (("study",), "which points, ranks x threads")])
def test_what_is_missing_is_said(submit, arguments, message):
    done, jobs = submit(*arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert jobs == []
