import numpy as np
import pytest

from dist_llm.config import ModelConfig
from dist_llm.inference.context import Context
from dist_llm.model.llama import Llama

T = 12


@pytest.fixture
def model() -> Llama:
    model = Llama(ModelConfig(dim=16, n_layers=2, n_heads=2, ffn_dim=24, max_seq_len=T, init_std=0.5), 50)
    model.params.initialize(np.random.default_rng(0))
    return model


@pytest.mark.parametrize("cuts", [(5,), (1, 2, 3, 4, 5), (3, 4), (2, 11)])
def test_tokens_that_come_bit_by_bit_give_the_logits_of_the_whole_text(model, cuts):
    tokens = np.random.default_rng(1).integers(0, 50, (3, T))
    context, start = Context(model, 3), 0
    for stop in (*cuts, T):
        context.append(tokens[:, start:stop])
        np.testing.assert_allclose(context.logits(), model.logits(tokens[:, :stop])[:, -1], rtol=1e-3, atol=1e-4)
        start = stop
    assert (len(context), context.forgotten) == (T, 0)


def test_the_older_half_slides_out_when_the_context_is_full(model):
    tokens = np.arange(T + 1)
    context = Context(model)
    context.append(tokens[:T])
    context.logits()
    context.append(tokens[T:])
    np.testing.assert_allclose(context.logits()[0], model.logits(tokens[None, -T // 2 :])[0, -1], rtol=1e-3, atol=1e-4)
    assert (len(context), context.forgotten) == (T // 2, T + 1 - T // 2)


@pytest.mark.parametrize(("before", "new", "kept"), [(0, 20, T), (5, 10, 10), (5, 50, T), (10, 3, T // 2)])
def test_of_what_comes_at_once_as_much_stays_as_fits(model, before, new, kept):
    tokens = np.arange(before + new) % 50
    context = Context(model)
    if before:
        context.append(tokens[:before])
        context.logits()
    context.append(tokens[before:])
    np.testing.assert_allclose(context.logits()[0], model.logits(tokens[None, -kept:])[0, -1], rtol=1e-3, atol=1e-4)
    assert context.forgotten == before + new - kept
