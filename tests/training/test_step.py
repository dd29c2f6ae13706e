"""A step by itself, and the ways in which its state goes out and comes in."""

import numpy as np
import pytest

from dist_llm.config import Config
from dist_llm.data.loader import CountedTokens, Loader, TokensInMemory
from dist_llm.training.step import TrainStep

CONFIG = Config().replace(
    {
        "model": {"dim": 16, "n_layers": 1, "n_heads": 2, "ffn_dim": 24, "max_seq_len": 8, "vocab_size": 64},
        "train": {"batch_size": 4, "max_steps": 20},
        "optim": {"warmup_steps": 2},
    }
)


def new() -> TrainStep:
    tokens = np.random.default_rng(5).integers(0, 60, 400)
    return TrainStep(CONFIG, Loader.of(TokensInMemory(tokens, "train", 400), CONFIG))


def weights_after(step: TrainStep, n: int) -> np.ndarray:
    while step.step < n:
        step()
    return step.model.params.data.copy()


@pytest.fixture(scope="module")
def at_6() -> tuple[dict, np.ndarray]:
    """A state after 6 steps, and the weights after 10."""
    step = new()
    weights_after(step, 6)
    state = {part: {name: array.copy() for name, array in arrays.items()} for part, arrays in step.state_dict().items()}
    return state, weights_after(step, 10)


def test_state_goes_in_as_it_came_out(at_6):
    state, expected = at_6
    step = new()
    step.load_state_dict(state, 6)
    again = step.state_dict()
    assert again.keys() == state.keys()
    for part in state:
        assert again[part].keys() == state[part].keys()
        assert all(np.array_equal(again[part][name], state[part][name]) for name in state[part])
    assert np.array_equal(weights_after(step, 10), expected)


def test_checkpoints_of_before_the_optimizer_kept_its_steps_go_on_too(at_6):
    state, expected = at_6
    step = new()
    step.load_state_dict(state | {"optimizer": {k: v for k, v in state["optimizer"].items() if k != "steps"}}, 6)
    assert np.array_equal(weights_after(step, 10), expected)


def test_weights_alone_are_a_start(at_6):
    state, expected = at_6
    step = new()
    step.load_state_dict({"model": state["model"]}, 6)
    got = step.model.state_dict()
    assert got.keys() == state["model"].keys()
    assert all(np.array_equal(got[name], array) for name, array in state["model"].items())
    assert not step.optimizer.state_dict()["steps"].any()
    weights = weights_after(step, 10)
    assert not np.array_equal(weights, expected)  # the moments began anew
    assert np.abs(weights - expected).max() < 0.05


def test_the_loss_is_the_mean_over_the_targets_that_count():
    rng = np.random.default_rng(5)
    tokens, counted = rng.integers(0, 60, 400), (rng.random(400) < 0.3).astype(np.int32)
    some = CountedTokens(TokensInMemory(tokens, "train", 400), TokensInMemory(counted, "counted", 0))
    step = TrainStep(CONFIG, Loader.of(some, CONFIG))
    x, y = step.loader.batch(0)
    assert 0 < (y >= 0).sum() < y.size
    model = step.model
    model.params.grad[...] = 0
    loss, cache = model.loss(x, y)
    model.loss_backward(1 / (y >= 0).sum(), cache)
    expected = float(np.linalg.norm(model.params.grad))
    result = step()
    assert result.loss == pytest.approx(loss / (y >= 0).sum(), rel=1e-6)
    assert result.grad_norm == pytest.approx(expected, rel=1e-5)
    assert result.tokens == 32


def test_a_batch_in_which_nothing_counts_changes_nothing_but_by_weight_decay():
    tokens = np.random.default_rng(5).integers(0, 60, 400)
    none = CountedTokens(TokensInMemory(tokens, "train", 400), TokensInMemory(np.zeros(400, np.int32), "none", 0))
    result = TrainStep(CONFIG, Loader.of(none, CONFIG))()
    assert (result.loss, result.grad_norm) == (0, 0)


def test_where_all_targets_count_it_is_the_ordinary_step():
    tokens = TokensInMemory(np.random.default_rng(5).integers(0, 60, 400), "train", 400)
    every = CountedTokens(tokens, TokensInMemory(np.ones(400, np.int32), "all", 0))
    weights = [weights_after(TrainStep(CONFIG, Loader.of(each, CONFIG)), 5) for each in (tokens, every)]
    assert np.array_equal(*weights)
