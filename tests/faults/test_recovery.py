"""Runs that go on when ranks die, and end with every bit as if they had not."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from dist_llm.measuring.jobs import choose_launcher

pytestmark = pytest.mark.mpirun
RANKS = 4
OPTIONS = ["--train.max_steps=20", "--train.checkpoint_interval=5", "--train.batch_size=8", "--parallel.recover=true"]
# Muon's updates are shared out among the ranks, which the others lose when one dies.
OPTIONS += ["--optim.optimizer=muon", "--optim.average=0.9"]
WEIGHTS = ["model.safetensors", "trained_weights.safetensors", "optimizer.safetensors"]


@pytest.fixture(autouse=True)
def needs_ulfm():
    version = subprocess.run([*choose_launcher().words, "--version"], capture_output=True, text=True, check=False)
    if "Open MPI" not in version.stdout and "prterun" not in version.stdout:
        pytest.skip("only Open MPI lets ranks survive the death of another")


@pytest.fixture
def recovering(train_arguments, start):
    def recovering(folder, deaths, *more, **environment):
        arguments = train_arguments(folder, *OPTIONS, *more)[2:]
        command = ["-m", "tests.faults.killed_train", deaths, *arguments]
        return start(RANKS, *command, launcher_options=("--with-ft", "ulfm"), **environment)

    return recovering


@pytest.fixture(scope="module")
def undisturbed():
    """What an undisturbed run leaves; made once."""
    return {}


def left_by(folder: Path) -> tuple:
    checkpoint = folder / "checkpoints/step-00000020"
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [(r["step"], r["loss"], r["grad_norm"], r.get("val_loss")) for r in records]
    return [(checkpoint / name).read_bytes() for name in WEIGHTS], losses


@pytest.mark.parametrize(
    "deaths",
    [
        "0@3:reduction",
        "2@3:forward,1@3:update",
        "0@10:evaluation",
        "0@5:checkpoint",
        "0@5:checkpoint_written,1@6:forward",
        "3@7:reduction,0@7:recovery,1@8:metrics",
        "0@20:metrics",
        "1@2:reduction,2@10:evaluation,0@20:checkpoint",
    ],
)
def test_a_run_ends_as_if_nobody_had_died(recovering, undisturbed, tmp_path, deaths):
    if not undisturbed:
        result = recovering("whole", "0@99:forward", "--parallel.strategy=deterministic").wait(60)
        assert result.returncode == 0, result.stderr
        undisturbed["whole"] = left_by(tmp_path / "whole")
    result = recovering("run", deaths, "--parallel.strategy=deterministic").wait(60)
    assert "\nfinished; " in result.stdout, result.stderr
    weights, losses = left_by(tmp_path / "run")
    assert losses == undisturbed["whole"][1]
    assert weights == undisturbed["whole"][0]
    # Every loss of a rank is in the metrics, with the time that it took to go on.
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    lost = [loss for record in records for loss in record.get("lost", [])]
    dead = [int(rank) for rank in re.findall(r"(\d)@\d+:(?!metrics|checkpoint\b)", deaths)]
    assert set(dead) <= {rank for loss in lost for rank in loss["ranks"]} | {0}
    assert all(0 < loss["seconds"] < 10 for loss in lost)


def test_a_frozen_rank_becomes_a_dead_one(recovering, undisturbed, tmp_path):
    result = recovering("run", "2@3:forward", "--parallel.strategy=deterministic", DEATH="SIGSTOP").wait(60)
    assert "\nfinished; " in result.stdout, result.stderr
    assert re.search(
        r"^\[rank 1 \S+\] rank 2 \(process \d+\) is stopped, for \d s now: killing it", result.stderr, re.M
    )
    assert re.search(r"^lost rank 2 in step 3: going on after step 2 with 3 of 4 ranks", result.stdout, re.M)
    if undisturbed:
        assert left_by(tmp_path / "run") == undisturbed["whole"]


@pytest.mark.parametrize("strategy", ["sharded", "local"])
def test_where_the_dead_take_state_along_all_go_back_to_the_last_checkpoint(recovering, tmp_path, strategy):
    result = recovering("run", "0@8:forward,3@3:forward", f"--parallel.strategy={strategy}").wait(60)
    assert "\nfinished; " in result.stdout, result.stderr
    told = r"^lost rank (\d) in step (\d): going on after step (\d), where (\S+) was written"
    found = re.findall(told, result.stdout, re.M)
    assert [(rank, step) for rank, step, *_ in found] == [("3", "3"), ("0", "8")]
    for *_, step, checkpoint in found:  # a checkpoint may not have been written yet
        assert (int(step), checkpoint) in [(n, f"run/checkpoints/step-{n:08d}") for n in (0, 5)]
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, 21))
    assert [loss["ranks"] for record in records for loss in record.get("lost", [])] == [[3], [0]]


def test_without_an_mpi_that_can_recovery_is_refused(run, train_arguments):
    result = run(2, *train_arguments("run", "--parallel.recover=true"))
    assert result.returncode == 2
    assert (
        "error: --parallel.recover=true needs Open MPI, told to let ranks survive: mpirun --with-ft ulfm"
        in result.stderr
    )
