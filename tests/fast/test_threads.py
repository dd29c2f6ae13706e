"""Threads share out the work, and make no difference in a single bit."""

import numpy as np
import pytest

from dist_llm.config import ModelConfig
from dist_llm.fast import threads
from dist_llm.fast.selection import COMPILED, layers_of, missing
from dist_llm.fast.threads import share_out, use_threads
from dist_llm.model.llama import Llama


@pytest.fixture(autouse=True)
def _one_thread_afterwards():
    yield
    use_threads(1)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("rows", [0, 1, 7, 64])
def test_every_row_is_somebodys(n, rows):
    use_threads(n)
    taken = np.zeros(rows, int)

    def work(part):
        taken[part] += 1

    share_out(rows, work, granularity=6)
    assert (taken == 1).all()


def test_what_fails_on_a_thread_fails():
    use_threads(3)

    def work(part):
        if part.start > 0:
            raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        share_out(9, work)


@pytest.mark.parametrize("precision", COMPILED)
def test_a_model_is_the_same_in_every_bit(precision):
    if lacking := missing(precision):
        pytest.skip(lacking)
    config = ModelConfig(dim=60, n_layers=2, n_heads=6, n_kv_heads=3, ffn_dim=77, max_seq_len=90)
    tokens, targets = np.random.default_rng(1).integers(0, 101, (2, 3, 90))
    results = []
    for n in (1, 2, 3):
        use_threads(n)
        assert (threads._pool is None) == (n == 1)
        model = Llama(config, 101, layers=layers_of(precision))
        model.params.initialize(np.random.default_rng(2))
        loss, cache = model.loss(tokens, targets)
        model.loss_backward(1.0, cache)
        results.append((loss, model.params.grad))
    for loss, grad in results[1:]:
        assert loss == results[0][0]
        assert np.array_equal(grad, results[0][1])
