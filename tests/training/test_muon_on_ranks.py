"""Muon and the average of the weights in runs on ranks, in MPI: every test runs on all of them."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.training.runs_on_ranks import COMMON, STEPS, assert_close, assert_equal, folder, losses

pytestmark = pytest.mark.mpi

MUON = ["--optim.optimizer=muon", "--optim.average=0.9"]


def test_muon_and_its_average_are_the_same_in_every_bit(world, train_on):
    """And a run that another number of ranks has begun goes on so."""
    deterministic = [*MUON, "--parallel.strategy=deterministic"]
    alone, ranks = (train_on(n, f"ranks-{n}", *COMMON, *deterministic) for n in (0, world.size))
    assert_equal(folder(ranks), folder(alone))
    assert losses(ranks) == losses(alone)
    begun = train_on(0, "begun", *COMMON, *deterministic, "--train.max_steps=10")
    train_on(world.size, None, "--resume", str(begun), f"--train.max_steps={STEPS}")
    assert_equal(folder(begun), folder(alone))


@pytest.mark.parametrize("strategy", ["blocking", "overlapped", "sharded"])
def test_muon_does_the_same_with_every_strategy(world, train_on, strategy):
    alone = train_on(0, "alone", *COMMON, *MUON)
    got = folder(train_on(world.size, "ranks", *COMMON, *MUON, f"--parallel.strategy={strategy}"))
    assert_close(got, folder(alone), times=20)
    mine, theirs = (load_file(f / "trained_weights.safetensors") for f in (got, folder(alone)))
    for name, value in theirs.items():
        assert np.linalg.norm(mine[name] - value) <= 2e-4 * np.linalg.norm(value), name
    assert losses(got.parent.parent)[-1] == pytest.approx(losses(alone)[-1], rel=1e-4)


def test_local_steps_with_muon_learn_and_their_average_is_the_mean_over_ranks(world, train_on):
    more = [*COMMON, *MUON, "--parallel.strategy=local", "--parallel.local_steps=4", "--train.max_steps=40"]
    found = losses(train_on(world.size, "local", *more))
    assert found[-1][1] < found[0][1] - 0.5
