"""The whole model: gradients of every tensor by name, sizes, names, causality, decoding."""

import dataclasses
import tracemalloc

import numpy as np
import pytest

from dist_llm.config import ModelConfig
from dist_llm.inference.kv_cache import new_kv_cache
from dist_llm.model.llama import Llama, count_parameters
from dist_llm.seeding import generator
from tests.gradcheck import check_gradient
from tests.oracles.cases import CASES, VOCAB, case_batch, case_model

DROPOUT = ModelConfig(dim=8, n_layers=2, n_heads=2, ffn_dim=12, max_seq_len=12, dropout=0.2, init_std=0.3)


def rngs(n: int) -> list[np.random.Generator]:
    return [np.random.default_rng(i) for i in range(n)]


@pytest.mark.parametrize("name", CASES)
def test_parameters_are_counted_right(name):
    assert count_parameters(CASES[name], VOCAB) == case_model(name).params.size


@pytest.mark.parametrize("name", CASES)
def test_gradient_of_every_tensor(name):
    model = case_model(name, np.float64)
    tokens, targets = case_batch()
    model.params.grad[...] = 0
    _, cache = model.loss(tokens, targets)
    model.loss_backward(0.5, cache)
    rng = np.random.default_rng(1)
    for param in model.params:
        check_gradient(
            lambda: 0.5 * model.loss(tokens, targets)[0],
            param.data,
            param.grad,
            rng,
            param.name,
            directions=2,
        )


def test_gradient_where_only_some_targets_count():
    name = next(iter(CASES))
    model = case_model(name, np.float64)
    tokens, targets = case_batch()
    targets = np.where(np.random.default_rng(2).random(targets.shape) < 0.4, targets, -1)
    model.params.grad[...] = 0
    loss, cache = model.loss(tokens, targets)
    logits = model.logits(tokens)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    assert loss == pytest.approx(-sum(logits[*place, targets[*place]] for place in np.argwhere(targets >= 0)))
    model.loss_backward(0.5, cache)
    rng = np.random.default_rng(1)
    for param in model.params:
        check_gradient(lambda: 0.5 * model.loss(tokens, targets)[0], param.data, param.grad, rng, param.name)


def test_gradient_with_dropout():
    model = Llama(DROPOUT, VOCAB, np.float64)
    model.params.initialize(np.random.default_rng(0))
    tokens, targets = (a[:, :12] for a in case_batch())
    _, cache = model.loss(tokens, targets, rngs(3))
    model.loss_backward(1.0, cache)
    rng = np.random.default_rng(1)
    for param in model.params:
        check_gradient(
            lambda: model.loss(tokens, targets, rngs(3))[0],
            param.data,
            param.grad,
            rng,
            param.name,
            directions=2,
        )


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_blocks_that_are_computed_again_give_the_same_bits(dropout):
    tokens, targets = (a[:, :12] for a in case_batch())
    grads = []
    for recompute in (False, True):
        model = Llama(dataclasses.replace(DROPOUT, dropout=dropout, recompute=recompute), VOCAB)
        model.params.initialize(np.random.default_rng(0))
        loss, cache = model.loss(tokens, targets, rngs(3))
        model.loss_backward(0.5, cache)
        grads.append((loss, model.params.grad))
    assert grads[0][0] == grads[1][0]
    assert np.array_equal(grads[0][1], grads[1][1])


def test_of_blocks_that_are_computed_again_the_input_is_kept():
    tokens = np.zeros((1, 256), np.int32)
    kept = []
    for recompute in (False, True):
        model = Llama(ModelConfig(recompute=recompute), 512)
        tracemalloc.start()
        _, cache = model.loss(tokens, tokens)
        kept.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        del cache
    inputs = 5 * 256 * 192 * 4
    logits = 256 * 512 * 4
    assert kept[1] < inputs + logits + 2 * 256 * 192 * 4 + 1e5  # and those of the last norm and of the loss head
    assert kept[0] > 10 * kept[1]


def test_the_tied_gradient_is_the_sum_of_both_uses():
    tied = case_model("tied", np.float64)
    untied = Llama(ModelConfig(**{**vars(CASES["tied"]), "tie_embeddings": False}), VOCAB, np.float64)
    untied.params.data[: tied.params.size] = tied.params.data
    untied.params["lm_head.weight"].data[...] = tied.params["model.embed_tokens.weight"].data
    tokens, targets = case_batch()
    for model in (tied, untied):
        _, cache = model.loss(tokens, targets)
        model.loss_backward(1.0, cache)
    both = untied.params["model.embed_tokens.weight"].grad + untied.params["lm_head.weight"].grad
    np.testing.assert_allclose(tied.params["model.embed_tokens.weight"].grad, both, rtol=1e-9, atol=1e-12)


def test_default_model_has_the_published_size_and_names():
    model = Llama(ModelConfig(), 512)
    assert model.params.size == 2_312_256
    names = [p.name for p in model.params]
    layer = [
        "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
    ]  # fmt: skip
    expected = [f"model.layers.{i}.{part}.weight" for i in range(5) for part in layer]
    assert names == ["model.embed_tokens.weight", *expected, "model.norm.weight"]


def test_views_cover_the_flat_buffers_without_gap_or_overlap():
    model = case_model("untied-grouped")
    offset = 0
    for param in model.params:
        assert param.offset == offset
        assert np.shares_memory(param.data, model.params.data)
        assert np.shares_memory(param.grad, model.params.grad)
        offset += param.data.size
    assert offset == model.params.data.size == model.params.grad.size


def test_float32_stays_float32():
    """One double-precision array anywhere would make everything behind it slow."""
    model = case_model("tied")
    seen: list[str] = []

    def look(value: object) -> None:
        if isinstance(value, np.ndarray) and value.dtype.kind in "fc":
            seen.append(value.dtype.name)
        elif isinstance(value, tuple | list):
            for item in value:
                look(item)

    _, cache = model.loss(*case_batch())
    model.loss_backward(1.0, cache)
    look(cache)
    assert len(seen) > 20
    assert set(seen) == {"float32"}


def test_gradients_add_up_over_micro_batches():
    model = case_model("tied", np.float64)
    tokens, targets = case_batch()
    total, cache = model.loss(tokens, targets)
    model.loss_backward(1.0, cache)
    whole = model.params.grad.copy()
    model.params.grad[...] = 0
    parts = 0.0
    for i in range(3):
        loss, cache = model.loss(tokens[i : i + 1], targets[i : i + 1])
        model.loss_backward(1.0, cache)
        parts += loss
    assert parts == pytest.approx(total, rel=1e-12)
    np.testing.assert_allclose(model.params.grad, whole, rtol=1e-9, atol=1e-12)


def test_no_position_sees_the_future():
    model = case_model("tied")
    tokens, _ = case_batch()
    logits = model.logits(tokens)
    changed = tokens.copy()
    changed[:, 70:] = (changed[:, 70:] + 1) % VOCAB
    changed_logits = model.logits(changed)
    assert np.array_equal(logits[:, :70], changed_logits[:, :70])
    assert not np.allclose(logits[:, 70:], changed_logits[:, 70:])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("prefill", [1, 7, 96])
def test_decoding_with_the_cache_equals_the_whole_forward(name, prefill):
    model = case_model(name)
    tokens, _ = case_batch()
    expected = model.logits(tokens)
    cache = new_kv_cache(model, len(tokens))
    got = [model.decode(tokens[:, :prefill], 0, cache)]
    got += [model.decode(tokens[:, t : t + 1], t, cache) for t in range(prefill, tokens.shape[1])]
    np.testing.assert_allclose(np.stack(got, axis=1), expected[:, prefill - 1 :], rtol=2e-4, atol=2e-5)


def test_decoding_in_pieces():
    model = case_model("untied-grouped", np.float64)
    tokens, _ = case_batch()
    cache = new_kv_cache(model, len(tokens))
    for start, stop in ((0, 5), (5, 6), (6, 40), (40, 96)):
        logits = model.decode(tokens[:, start:stop], start, cache)
        np.testing.assert_allclose(logits, model.logits(tokens[:, :stop])[:, -1], rtol=1e-10, atol=1e-12)


def test_with_zero_init_no_block_adds_anything_at_first():
    config = dataclasses.replace(DROPOUT, dropout=0.0, zero_init=True)
    model, plain = Llama(config, 11), Llama(dataclasses.replace(config, zero_init=False), 11)
    for each in (model, plain):
        each.params.initialize(generator(1, "weights"))
    tokens = np.arange(10).reshape(2, 5)
    h, _ = model.forward(tokens)
    embedded, _ = model.embed_tokens.forward(tokens)
    np.testing.assert_array_equal(h, model.norm.forward(embedded)[0])
    for name, other in plain.params.state_dict().items():  # all else is what it would have been
        if "o_proj" in name or "down_proj" in name:
            assert not model.params[name].data.any()
            assert other.any()
        else:
            assert np.array_equal(model.params[name].data, other), name
