"""A step by itself, and the ways in which its state goes out and comes in."""

import numpy as np
import pytest

from dist_llm.config import Config
from dist_llm.data.loader import Loader, TokensInMemory
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
    assert np.array_equal(step.model.params.data, np.concatenate([a.ravel() for a in state["model"].values()]))
    assert not step.optimizer.state_dict()["steps"].any()
    weights = weights_after(step, 10)
    assert not np.array_equal(weights, expected)  # the moments began anew
    assert np.abs(weights - expected).max() < 0.05
