"""N ranks compute what one process computes."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.mpirun

STEPS = 20


def weights(run_dir: Path, step: int = STEPS) -> dict[str, np.ndarray]:
    return load_file(run_dir / "checkpoints" / f"step-{step:08d}" / "model.safetensors")


def metrics(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def assert_same_weights(got: dict, expected: dict) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert np.linalg.norm(got[name] - value) < 1e-5 * np.linalg.norm(value), name


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_every_tensor_agrees_with_the_single_process_after_20_steps(run, train_arguments, tmp_path, dropout):
    # A batch of 7 divides by none of 2, 3 and 4 ranks, and micro-batches of 2 do not divide the shares.
    more = [f"--train.max_steps={STEPS}", f"--model.dropout={dropout}"]
    result = run(0, *train_arguments("serial", *more))
    assert result.returncode == 0, result.stderr
    expected, expected_metrics = weights(tmp_path / "serial"), metrics(tmp_path / "serial")
    initial = run(0, *train_arguments("start", *more, "--train.max_steps=1"))
    assert initial.returncode == 0, initial.stderr
    for name, before in weights(tmp_path / "start", 1).items():
        # Every tensor has moved by much more than the tolerance below: agreement means something.
        assert np.linalg.norm(expected[name] - before) > 1e-3 * np.linalg.norm(before), name
    for ranks in (1, 2, 3, 4):
        result = run(ranks, *train_arguments(f"ranks-{ranks}", *more))
        assert result.returncode == 0, result.stderr
        assert_same_weights(weights(tmp_path / f"ranks-{ranks}"), expected)
        for got, want in zip(metrics(tmp_path / f"ranks-{ranks}"), expected_metrics, strict=True):
            for key in ("step", "tokens", "lr"):
                assert got[key] == want[key]
            for key in {"loss", "grad_norm", "val_loss", "val_bits_per_byte"} & want.keys():
                assert got[key] == pytest.approx(want[key], rel=1e-4), (ranks, got["step"], key)


def test_evaluation_is_the_same_number_on_any_number_of_ranks(run, train_arguments, tmp_path):
    assert run(0, *train_arguments("run", "--train.max_steps=3")).returncode == 0
    results = [run(ranks, "-m", "dist_llm.evaluate", "run", "--threads=1") for ranks in (0, 1, 2, 3, 4)]
    assert [r.returncode for r in results] == [0] * 5, [r.stderr for r in results]
    numbers = [json.loads(r.stdout) for r in results]
    assert all(n == numbers[0] for n in numbers)
    assert numbers[0]["loss"] == metrics(tmp_path / "run")[-1]["val_loss"]


def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit_on_two_ranks(run, train_arguments, tmp_path):
    # The learning rate of the first ten steps must be that of a run of twenty: constant, or still warming up.
    broken = train_arguments("broken", "--train.max_steps=10", "--model.dropout=0.1", "--optim.schedule=constant")
    assert run(2, *broken).returncode == 0
    whole = train_arguments("whole", "--train.max_steps=20", "--model.dropout=0.1", "--optim.schedule=constant")
    assert run(2, *whole).returncode == 0
    result = run(2, "-m", "dist_llm.train", "--resume", "broken", "--train.max_steps=20")
    assert result.returncode == 0, result.stderr
    assert "continued after step 10" in result.stdout
    for file in ("model.safetensors", "optimizer.safetensors"):
        got, expected = ((tmp_path / d / "checkpoints/step-00000020" / file).read_bytes() for d in ("broken", "whole"))
        assert got == expected, file


@pytest.mark.parametrize(("first", "second"), [(1, 3), (4, 2), (2, 0)])
def test_a_run_continues_on_another_number_of_ranks(run, train_arguments, tmp_path, first, second):
    constant = "--optim.schedule=constant"
    assert run(0, *train_arguments("whole", "--train.max_steps=20", constant)).returncode == 0
    assert run(first, *train_arguments("broken", "--train.max_steps=10", constant)).returncode == 0
    result = run(second, "-m", "dist_llm.train", "--resume", "broken", "--train.max_steps=20")
    assert result.returncode == 0, result.stderr
    assert_same_weights(weights(tmp_path / "broken"), weights(tmp_path / "whole"))


def test_hosts_without_the_text_are_sent_it(run, train_arguments, tmp_path):
    assert run(3, *train_arguments("near", "--train.max_steps=6")).returncode == 0
    result = run(3, "-m", "tests.mpi.far_train", *train_arguments("far", "--train.max_steps=6")[2:])
    assert result.returncode == 0, result.stderr
    assert "no shards where rank 1, 2 runs: rank 0 sent the tokens" in result.stdout
    last = max((tmp_path / "near" / "checkpoints").iterdir()).name
    got, expected = ((tmp_path / d / "checkpoints" / last / "model.safetensors").read_bytes() for d in ("far", "near"))
    assert got == expected
    assert [m.get("val_bits_per_byte") for m in metrics(tmp_path / "far")] == [
        m.get("val_bits_per_byte") for m in metrics(tmp_path / "near")
    ]
