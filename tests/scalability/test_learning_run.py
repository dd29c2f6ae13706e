"""A learning run is a training run: the same losses at the same steps, whoever computes them."""

import pytest

from dist_llm.config import Config
from dist_llm.data import prepare
from dist_llm.scalability import learning_run
from dist_llm.scalability.learning_run import EVALUATIONS, learn, with_batch_size
from dist_llm.training.metrics import read_metrics

MODEL = {"dim": 16, "n_layers": 2, "n_heads": 2, "ffn_dim": 24, "max_seq_len": 16}
TRAIN = {"batch_size": 6, "max_steps": 12, "eval_tokens": 64}
OPTIM = {"warmup_steps": 2, "average": 0.9}


@pytest.fixture
def data(text_file, tmp_path):
    return {"path": str(text_file), "cache_dir": str(tmp_path / "cache"), "tokenizer": "byte"}


@pytest.fixture
def config(data):
    config = Config().replace({"model": MODEL | {"vocab_size": 257}, "data": data, "train": TRAIN, "optim": OPTIM})
    return config.replace({"data": {"shards": str(prepare(config.data))}, "parallel": {"threads": 1}})


def test_its_losses_are_those_of_a_training_run(comm, config, data, run, tmp_path, monkeypatch):
    monkeypatch.setattr(learning_run, "EVALUATIONS", 3)
    learned = learn(comm, config, to_loss=0.0)
    assert (learned.steps, learned.max_steps, learned.batch_size) == ([0, 4, 8, 12], 12, 6)
    assert learned.point == f"{comm.size}x1"
    assert learned.seconds == sorted(learned.seconds)
    if comm.rank == 0:
        sections = {"model": MODEL, "data": data, "train": TRAIN, "optim": OPTIM}
        options = [f"--{name}.{key}={value}" for name, values in sections.items() for key, value in values.items()]
        options += ["--train.eval_interval=4", "--train.run_dir=run", "--parallel.threads=1"]
        result = run(0, "-m", "dist_llm.train", *options)
        assert result.returncode == 0, result.stderr
        trained = {m["step"]: m["val_loss"] for m in read_metrics(tmp_path / "run") if "val_loss" in m}
        assert dict(zip(learned.steps[1:], learned.val_losses[1:], strict=True)) == pytest.approx(trained, rel=1e-4)
        if comm.size == 1:
            assert learned.val_losses[1:] == list(trained.values())


def test_it_ends_where_the_loss_is_reached(comm, config, monkeypatch):
    monkeypatch.setattr(learning_run, "EVALUATIONS", 6)
    whole = learn(comm, config, to_loss=0.0)
    loss = (whole.val_losses[2] + whole.val_losses[3]) / 2
    assert whole.val_losses[3] < loss < whole.val_losses[2]
    part = learn(comm, config, to_loss=loss)
    assert part.steps == [0, 2, 4, 6]
    assert part.val_losses == pytest.approx(whole.val_losses[:4], rel=1e-6)
    assert learn(comm, config, to_loss=9.0).steps == [0]


def test_the_last_evaluation_is_at_the_end_and_the_others_are_evenly_spaced(comm, config, monkeypatch):
    monkeypatch.setattr(learning_run, "EVALUATIONS", 5)
    assert learn(comm, config, to_loss=0.0).steps == [0, 3, 6, 9, 12]
    monkeypatch.setattr(learning_run, "EVALUATIONS", 2)
    odd = config.replace({"train": {"max_steps": 5}})
    assert learn(comm, odd, to_loss=0.0).steps == [0, 3, 5]
    assert EVALUATIONS * 0.04 > 1  # a few per cent of a run


def test_batches_of_another_size_have_the_same_tokens_and_another_learning_rate():
    optim = {"lr": 4e-3, "min_lr": 4e-4, "warmup_steps": 32, "average": 0.9}
    usual = Config().replace({"train": {"batch_size": 16, "max_steps": 320}, "optim": optim})
    large = with_batch_size(usual, 64)
    assert (large.train.batch_size, large.train.max_steps, large.optim.warmup_steps) == (64, 80, 8)
    assert (large.optim.lr, large.optim.min_lr) == (pytest.approx(8e-3), pytest.approx(8e-4))
    assert large.optim.average == pytest.approx(0.9**4)
    small = with_batch_size(usual, 4)
    assert (small.train.max_steps, small.optim.lr) == (1280, pytest.approx(2e-3))
    assert with_batch_size(usual, 16) == usual
    assert with_batch_size(usual, 1 << 20).train.max_steps == 1
    # Without an average there is none, whatever the size.
    assert with_batch_size(Config(), 4).optim.average == 0
