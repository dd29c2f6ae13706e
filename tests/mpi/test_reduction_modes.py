"""Whole trainings in each way of reduction, and from one to another."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.mpirun

STEPS = 20
# A batch of 9 in micro-batches of 2 makes four whole ones and a half one.
COMMON = [f"--train.max_steps={STEPS}", "--optim.schedule=constant", "--train.batch_size=9", "--model.dropout=0.1"]
FILES = ("model.safetensors", "optimizer.safetensors")


def folder(run_dir: Path, step: int = STEPS) -> Path:
    return run_dir / "checkpoints" / f"step-{step:08d}"


def losses(run_dir: Path) -> list[tuple]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [(m["step"], m["loss"], m["grad_norm"], m.get("val_loss")) for m in lines]


def assert_close(got: Path, expected: Path) -> None:
    for file in FILES:
        mine, theirs = load_file(got / file), load_file(expected / file)
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            # The moments of a tensor are differences of small numbers, and a little further apart.
            tolerance = 1e-5 if file == "model.safetensors" else 1e-4
            assert np.linalg.norm(mine[name] - value) < tolerance * np.linalg.norm(value), (got, name)


@pytest.mark.parametrize("mode", ["overlapped", "sharded"])
def test_every_tensor_is_that_of_the_plain_reduction(run, train_arguments, tmp_path, mode):
    assert run(0, *train_arguments("plain", *COMMON)).returncode == 0
    for ranks in (0, 1, 2, 3, 4):
        result = run(
            ranks, *train_arguments(f"{mode}-{ranks}", *COMMON, f"--parallel.reduction={mode}"),
            "--parallel.bucket_bytes=3000",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert_close(folder(tmp_path / f"{mode}-{ranks}"), folder(tmp_path / "plain"))


def test_deterministic_is_the_same_in_every_bit_on_any_number_of_ranks(run, train_arguments, tmp_path):
    mode = "--parallel.reduction=deterministic"
    for ranks in (0, 1, 2, 3, 4, 5, 8):  # with 8 ranks, three have nothing to do
        result = run(ranks, *train_arguments(f"ranks-{ranks}", *COMMON, mode))
        assert result.returncode == 0, result.stderr
        for file in FILES:
            got, expected = ((folder(tmp_path / d) / file).read_bytes() for d in (f"ranks-{ranks}", "ranks-0"))
            assert got == expected, (ranks, file)
        assert losses(tmp_path / f"ranks-{ranks}") == losses(tmp_path / "ranks-0")
    assert run(0, *train_arguments("plain", *COMMON)).returncode == 0
    assert_close(folder(tmp_path / "ranks-0"), folder(tmp_path / "plain"))


def test_local_steps_of_a_single_rank_are_ordinary_steps(run, train_arguments, tmp_path):
    """With an outer step that goes just where the inner ones went."""
    assert run(0, *train_arguments("plain", *COMMON)).returncode == 0
    options = ["--parallel.reduction=local", "--parallel.local_steps=3", "--parallel.outer_momentum=0"]
    result = run(1, *train_arguments("local", *COMMON, *options, "--parallel.outer_lr=1"))
    assert result.returncode == 0, result.stderr
    assert_close(folder(tmp_path / "local"), folder(tmp_path / "plain"))


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_local_steps_meet_and_learn(run, train_arguments, tmp_path, ranks):
    """Their sums are checked against the algorithm as published; here, that a training of them holds together."""
    more = [*COMMON, "--parallel.reduction=local", "--parallel.local_steps=4", "--train.max_steps=40"]
    result = run(ranks, *train_arguments("local", *more))
    assert result.returncode == 0, result.stderr  # replicas are compared every five steps
    assert losses(tmp_path / "local")[-1][1] < losses(tmp_path / "local")[0][1] - 0.5


@pytest.mark.parametrize("wire", ["float16", "bfloat16"])
def test_16_bits_on_the_wire_change_every_tensor_a_little(run, train_arguments, tmp_path, wire):
    assert run(0, *train_arguments("plain", *COMMON)).returncode == 0
    expected = load_file(folder(tmp_path / "plain") / "model.safetensors")
    for ranks in (1, 2, 3, 4):
        options = ["--parallel.reduction=blocking", f"--parallel.wire={wire}"]
        result = run(ranks, *train_arguments(f"{wire}-{ranks}", *COMMON, *options))
        assert result.returncode == 0, result.stderr
        got = load_file(folder(tmp_path / f"{wire}-{ranks}") / "model.safetensors")
        for name, value in expected.items():
            distance = np.linalg.norm(got[name] - value) / np.linalg.norm(value)
            assert 0 < distance < 0.05, (ranks, name)


@pytest.mark.parametrize(("mode", "ranks"), [("sharded", 3), ("deterministic", 2), ("local", 3), ("overlapped", 2)])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(run, train_arguments, tmp_path, mode, ranks):
    more = [*COMMON, f"--parallel.reduction={mode}", "--parallel.local_steps=4", "--train.checkpoint_interval=10"]
    if mode == "local":
        more += ["--parallel.wire=int8"]  # with something kept for the next round
    assert run(ranks, *train_arguments("whole", *more)).returncode == 0
    assert run(ranks, *train_arguments("broken", *more, "--train.max_steps=10")).returncode == 0
    result = run(ranks, "-m", "dist_llm.train", "--resume", "broken", f"--train.max_steps={STEPS}")
    assert result.returncode == 0, result.stderr
    for file in (*FILES, *(["reduction.safetensors"] if mode == "local" else [])):
        got, expected = ((folder(tmp_path / d) / file).read_bytes() for d in ("broken", "whole"))
        assert got == expected, file


def test_a_checkpoint_of_any_mode_goes_on_in_any_other(run, train_arguments, tmp_path):
    assert run(0, *train_arguments("whole", *COMMON)).returncode == 0
    assert run(3, *train_arguments("a", *COMMON, "--train.max_steps=5", "--parallel.reduction=sharded")).returncode == 0
    for ranks, mode, last in ((2, "overlapped", 10), (0, "deterministic", 15), (4, "sharded", 20)):
        result = run(
            ranks, "-m", "dist_llm.train", "--resume", "a", f"--train.max_steps={last}", f"--parallel.reduction={mode}"
        )
        assert result.returncode == 0, result.stderr
    assert_close(folder(tmp_path / "a"), folder(tmp_path / "whole"))
    # From ranks by themselves there is a way too, though to other numbers.
    local = train_arguments("local", *COMMON, "--train.max_steps=10", "--parallel.reduction=local")
    assert run(3, *local).returncode == 0
    for ranks, mode, last in ((2, "local", 15), (2, "blocking", 20)):
        result = run(
            ranks, "-m", "dist_llm.train", "--resume", "local", f"--train.max_steps={last}",
            f"--parallel.reduction={mode}",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "local")[-1][1] < losses(tmp_path / "local")[0][1]


@pytest.mark.parametrize("first", [0, 1, 2, 3, 4])
def test_data_goes_on_unbroken_on_any_number_of_ranks(run, train_arguments, tmp_path, first):
    """And in deterministic mode, so do the bits of every weight."""
    record = ["-m", "tests.mpi.recorded_train"]
    more = [*COMMON, "--train.max_steps=12", "--parallel.reduction=deterministic"]
    assert run(0, *record, "record-whole", *train_arguments("whole", *more)[2:]).returncode == 0
    assert run(first, *record, "record-a", *train_arguments("a", *more, "--train.max_steps=5")[2:]).returncode == 0
    expected = [tuple(i) for line in lines(tmp_path / "record-whole") for i in line["sequences"]]
    for second in (0, 1, 2, 3, 4):
        name = f"to-{second}"
        shutil.copytree(tmp_path / "a", tmp_path / name)
        shutil.copytree(tmp_path / "record-a", tmp_path / f"record-{name}")
        result = run(second, *record, f"record-{name}", "--resume", name, "--train.max_steps=12")
        assert result.returncode == 0, result.stderr
        got = [tuple(i) for line in lines(tmp_path / f"record-{name}") for i in line["sequences"]]
        assert Counter(got) == Counter(expected)  # none twice, none left out
        assert {line["step"] for line in lines(tmp_path / f"record-{name}")} == set(range(12))
        for file in FILES:
            assert (folder(tmp_path / name, 12) / file).read_bytes() == (
                folder(tmp_path / "whole", 12) / file
            ).read_bytes(), (first, second, file)


def lines(record: Path) -> list[dict]:
    """What all ranks wrote down."""
    return [json.loads(line) for path in sorted(record.iterdir()) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--parallel.reduction=ring"],
            "parallel.reduction is one of blocking, overlapped, deterministic, ",
        ),
        (["--parallel.reduction=sharded", "--parallel.wire=float16"], "parallel.wire=float16 goes with"),
        (["--parallel.reduction=blocking", "--parallel.wire=int8"], "parallel.wire=int8 is too coarse for gradients"),
    ],
)
def test_mistakes_are_one_line(run, train_arguments, options, message):
    result = run(2, *train_arguments("run", *options))
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("error:") == 1
