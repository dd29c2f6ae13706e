"""What tests of runs on ranks have in common: a short run, what it leaves, and how near that is to another's."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from dist_llm.training.metrics import read_metrics

STEPS = 20
# A batch of 9 in micro-batches of 2 makes four whole ones and a half one; of ranks it is divided by 1 and 3 only.
COMMON = [f"--train.max_steps={STEPS}", "--optim.schedule=constant", "--train.batch_size=9", "--model.dropout=0.1"]
# Muon, whose tests are in test_muon_on_ranks.py, enlarges what rounding does to small singular values, a hundredfold.
ADAMW = "--optim.optimizer=adamw"
COMMON += [ADAMW]
FILES = ("model.safetensors", "optimizer.safetensors")


def folder(run_dir: Path, step: int = STEPS) -> Path:
    return run_dir / "checkpoints" / f"step-{step:08d}"


def losses(run_dir: Path) -> list[tuple]:
    return [(m["step"], m["loss"], m["grad_norm"], m.get("val_loss")) for m in read_metrics(run_dir)]


def assert_close(got: Path, expected: Path, times: float = 1) -> None:
    for file in FILES:
        mine, theirs = load_file(got / file), load_file(expected / file)
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            # The moments of a tensor are differences of small numbers, and a little further apart.
            tolerance = times * (1e-5 if file == "model.safetensors" else 1e-4)
            assert np.linalg.norm(mine[name] - value) <= tolerance * np.linalg.norm(value), (got, name)


def assert_equal(got: Path, expected: Path) -> None:
    assert {p.name for p in got.iterdir()} == {p.name for p in expected.iterdir()}
    for path in expected.glob("*.safetensors"):
        assert (got / path.name).read_bytes() == path.read_bytes(), path
