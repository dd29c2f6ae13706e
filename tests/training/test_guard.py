"""Steps that are left out, and when a run ends instead."""

import math

import pytest

from dist_llm.config import TrainConfig
from dist_llm.errors import RunError
from dist_llm.training.guard import FIRST_STEPS, StepGuard
from dist_llm.training.metrics import read_metrics
from dist_llm.training.step import TrainStep
from dist_llm.training.summary import summarize


@pytest.mark.parametrize(("loss", "grad_norm"), [(math.nan, 1.0), (1.0, math.inf), (1.0, math.nan)])
def test_without_leave_a_bad_step_ends_the_run(loss, grad_norm):
    with pytest.raises(RunError, match=r"the loss or gradient of step 7 is not a finite number: lower --optim\.lr"):
        StepGuard(TrainConfig()).refuses(7, loss, grad_norm)


def test_so_many_bad_steps_are_left_out():
    guard = StepGuard(TrainConfig(max_bad_steps=2))
    assert [guard.refuses(step, loss, 1.0) for step, loss in enumerate([1.0, math.nan, 1.0, math.inf, 1.0])] == [
        False, True, False, True, False,
    ]  # fmt: skip
    assert guard.bad_steps == 2
    with pytest.raises(RunError, match=r"\(2 steps were left out before\)"):
        guard.refuses(5, math.nan, 1.0)


def test_a_spike_is_a_loss_far_above_the_usual_one():
    guard = StepGuard(TrainConfig(max_bad_steps=9, spike_limit=1.5))
    assert not any(guard.refuses(step, 9.0, 1.0) for step in range(3))  # at first, nothing is usual
    assert not any(guard.refuses(step, 2.0, 1.0) for step in range(FIRST_STEPS + 200))
    assert not guard.refuses(300, 3.0, 1.0)
    assert guard.refuses(301, 3.1, 1.0)
    assert not guard.refuses(302, 2.0, 1.0)
    again = StepGuard(TrainConfig(max_bad_steps=9, spike_limit=1.5))
    again.load_state_dict(guard.state_dict())
    assert (again.bad_steps, again.refuses(303, 3.1, 1.0)) == (1, guard.refuses(303, 3.1, 1.0))


@pytest.fixture
def bad_step_3(monkeypatch):
    accumulate = TrainStep._accumulate_gradients

    def with_a_bad_one(self, n_targets):
        loss = accumulate(self, n_targets)
        if self.step == 2:
            self.model.params.grad[5] = math.nan
        return loss

    monkeypatch.setattr(TrainStep, "_accumulate_gradients", with_a_bad_one)


@pytest.mark.parametrize("strategy", ["blocking", "deterministic", "sharded", "local"])
def test_a_run_leaves_a_bad_step_out(train, tmp_path, bad_step_3, strategy):
    options = [f"--parallel.strategy={strategy}", "--train.max_steps=5", "--train.max_bad_steps=1"]
    status, out, err = train("run", *options)
    assert (status, err) == (0, "")
    records = read_metrics(tmp_path / "run")
    assert [record.get("left_out", False) for record in records] == [False, False, True, False, False]
    assert records[2]["grad_norm"] is None
    assert all(math.isfinite(record["loss"]) for record in records)
    assert "finished" in out
    summary = summarize(tmp_path / "run")
    assert (summary.status, len(summary.history.train)) == ("finished", 5 - (records[2]["loss"] is None))


@pytest.mark.parametrize("lr", ["1e38", "1e30"])
def test_unsound_weights_are_never_saved(train, tmp_path, lr):
    status, _, err = train("run", f"--optim.lr={lr}", "--train.max_steps=1")
    assert status == 1
    assert err == "error: the weights after step 1 are not finite numbers: lower --optim.lr\n"
    assert not list((tmp_path / "run").glob("checkpoints/*"))
