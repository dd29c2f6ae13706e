"""Training that ends when the validation loss gets no better."""

import json

import pytest

from dist_llm.inference.evaluation import Evaluation
from dist_llm.training import validation
from dist_llm.training.metrics import evaluations_since_best, read_metrics

LOSSES = {2: 5.0, 4: 4.0, 6: 4.5, 8: 3.0, 10: 3.5, 12: 3.0, 14: 3.2, 16: 1.0}
OPTIONS = ["--train.eval_interval=2", "--train.max_steps=20", "--train.keep_checkpoints=9"]


@pytest.fixture
def given_losses(monkeypatch):
    """Evaluations whose losses are those of LOSSES."""
    steps = iter(LOSSES)

    def evaluate(*_):
        loss = LOSSES[next(steps)]
        return Evaluation(loss, 1.0, 1.0, 1)

    monkeypatch.setattr(validation, "evaluate", evaluate)


def test_it_stops_after_so_many_evaluations_that_are_no_better(train, tmp_path, given_losses):
    status, out, err = train("run", *OPTIONS, "--train.patience=3")
    assert (status, err) == (0, "")
    records = read_metrics(tmp_path / "run")
    assert [r["val_loss"] for r in records if "val_loss" in r] == [5.0, 4.0, 4.5, 3.0, 3.5, 3.0, 3.2]
    assert records[-1]["step"] == 14
    assert "stopped early at step 14 of 20: 3 evaluations in a row no better; best validation loss 3.0000" in out
    state = json.loads((tmp_path / "run/checkpoints/step-00000014/state.json").read_text())
    assert state["val_loss"] == 3.2
    status, _, err = train(None, "--resume", "run")
    assert status == 2
    assert "the run has stopped early; --train.patience=6 would go on" in err
    assert err.count("\n") == 1
    assert train(None, "--resume", "run", "--train.patience=0", "--train.max_steps=16")[0] == 0


def test_without_patience_it_goes_on(train, tmp_path, given_losses):
    assert train("run", *OPTIONS, "--train.max_steps=16")[0] == 0
    assert read_metrics(tmp_path / "run")[-1]["step"] == 16


@pytest.mark.parametrize("step", [10, 12, 14])
def test_what_a_run_has_waited_for_is_found_in_its_folder(tmp_path, step):
    lines = [json.dumps({"step": s, "loss": 1.0, "val_loss": loss}) for s, loss in LOSSES.items()]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert evaluations_since_best(tmp_path, step) == (step - 8) // 2
    assert evaluations_since_best(tmp_path, 16) == 0
    assert evaluations_since_best(tmp_path, 0) == 0


@pytest.mark.mpi
def test_a_resumed_run_stops_where_an_unbroken_one_does(world, train_on, mpi_tmp_path):
    # With a learning rate this high, the loss soon goes up and down.
    more = [
        "--train.max_steps=60", "--train.eval_interval=1", "--train.patience=3", "--optim.schedule=constant",
        "--optim.lr=0.1", "--optim.min_lr=0.1", "--optim.warmup_steps=1", "--train.checkpoint_interval=1",
        "--train.keep_checkpoints=60",
    ]  # fmt: skip
    whole = train_on(world.size, "whole", *more)
    last = read_metrics(whole)[-1]["step"]
    assert 4 <= last < 60
    broken = train_on(world.size, "broken", *more, f"--train.max_steps={last - 1}")
    train_on(world.size, None, "--resume", "broken", "--train.max_steps=60")
    assert read_metrics(broken)[-1]["step"] == last
    for run in (whole, broken):
        assert evaluations_since_best(run, last) == 3
    name = f"checkpoints/step-{last:08d}/model.safetensors"
    assert (whole / name).read_bytes() == (broken / name).read_bytes()
