"""Every layer: its gradients, and its values against a plain version."""

import tracemalloc

import numpy as np
import pytest

from dist_llm.model import causal_attention, functional, loss_head
from dist_llm.model.attention import Attention
from dist_llm.model.block import Block
from dist_llm.model.embedding import Embedding
from dist_llm.model.layer import unobserved
from dist_llm.model.layers import PLAIN
from dist_llm.model.linear import Linear
from dist_llm.model.loss_head import LossHead
from dist_llm.model.params import ParamStore
from dist_llm.model.rmsnorm import RMSNorm
from dist_llm.model.rope import apply_rotary_emb, apply_rotary_emb_backward, precompute_freqs_cis, rotary_frequencies
from dist_llm.model.swiglu import SwiGLU
from tests.gradcheck import check_gradient, check_layer
from tests.oracles.plain import plain_cross_entropy, plain_rotary_emb


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def randomized(store: ParamStore, rng: np.random.Generator) -> ParamStore:
    store.allocate(np.float64)
    store.data[...] = rng.standard_normal(store.size)
    return store


def test_linear(rng):
    store = ParamStore()
    layer = Linear(store.declare("weight", (7, 5), "hidden", 1.0))
    randomized(store, rng)
    x = rng.standard_normal((2, 3, 5))
    assert np.allclose(layer.forward(x)[0], np.einsum("oi,bti->bto", layer.weight.data, x))
    check_layer(lambda: layer.forward(x), layer.backward, x, store)


def test_embedding(rng):
    store = ParamStore()
    layer = Embedding(store, "embed", 9, 4, 1.0)
    randomized(store, rng)
    tokens = rng.integers(0, 9, (3, 8))  # more places than words: some words stand in several
    assert np.array_equal(layer.forward(tokens)[0][1, 2], layer.weight.data[tokens[1, 2]])
    check_layer(lambda: layer.forward(tokens), layer.backward, None, store)


def test_embedding_gradient_is_that_of_add_at(rng):
    store = ParamStore()
    layer = Embedding(store, "embed", 50, 4, 1.0)
    randomized(store, rng)
    tokens, dy = rng.integers(0, 50, (4, 100)), rng.standard_normal((4, 100, 4))
    layer.backward(dy, tokens)
    expected = np.zeros((50, 4))
    np.add.at(expected, tokens, dy)
    np.testing.assert_allclose(layer.weight.grad, expected, rtol=1e-12, atol=1e-12)


def test_rmsnorm(rng):
    store = ParamStore()
    layer = RMSNorm(store, "norm", 6, eps=0.1)
    randomized(store, rng)
    x = rng.standard_normal((2, 3, 6))
    y = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 0.1) * layer.gain.data
    np.testing.assert_allclose(layer.forward(x)[0], y, rtol=1e-12)
    check_layer(lambda: layer.forward(x), layer.backward, x, store)


def test_rope(rng):
    x = rng.standard_normal((2, 9, 3, 8))
    freqs_cis = precompute_freqs_cis(9, rotary_frequencies(8, 100.0), np.float64)
    y = apply_rotary_emb(x, freqs_cis)
    np.testing.assert_allclose(y, plain_rotary_emb(x.swapaxes(1, 2), 100.0), rtol=1e-12, atol=1e-12)

    def backward(dy, _):
        dx = np.empty_like(x)
        apply_rotary_emb_backward(dy, freqs_cis, out=dx)
        return dx

    check_layer(lambda: (apply_rotary_emb(x, freqs_cis), None), backward, x, [])


def test_rope_scores_depend_on_the_distance_only(rng):
    q, k = rng.standard_normal((2, 1, 1, 1, 8))
    freqs_cis = precompute_freqs_cis(20, rotary_frequencies(8, 10000.0), np.float64)
    scores = [
        float((apply_rotary_emb(q, freqs_cis[t : t + 1]) * apply_rotary_emb(k, freqs_cis[t - 3 : t - 2])).sum())
        for t in (3, 10, 19)
    ]
    assert np.allclose(scores, scores[0])
    assert not np.isclose(scores[0], float((q * k).sum()))


@pytest.mark.parametrize("n_kv_heads", [4, 2, 1])
def test_attention(rng, monkeypatch, n_kv_heads):
    monkeypatch.setattr(causal_attention, "QUERY_BLOCK", 4)
    store = ParamStore()
    layer = Attention(
        store, "attn", 16, 4, n_kv_heads, precompute_freqs_cis(10, rotary_frequencies(4, 100.0), np.float64), 1.0, 1.0
    )
    randomized(store, rng)
    store.data *= 0.3
    x = rng.standard_normal((2, 10, 16))
    check_layer(lambda: layer.forward(x), layer.backward, x, store)


@pytest.mark.parametrize("n_kv_heads", [4, 2, 1])
def test_attention_weights_are_what_attention_weighs_values_with(rng, n_kv_heads):
    store = ParamStore()
    rotations = precompute_freqs_cis(10, rotary_frequencies(4, 100.0), np.float64)
    layer = Attention(store, "attn", 16, 4, n_kv_heads, rotations, 1.0, 1.0)
    randomized(store, rng)
    x = 0.3 * rng.standard_normal((2, 7, 16))
    weights = layer.weights(x)
    assert weights.shape == (2, 4, 7, 7)
    assert (weights[..., ~np.tri(7, dtype=bool)] == 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1)
    v = (x @ store["attn.v_proj.weight"].data.T).reshape(2, 7, n_kv_heads, 4).swapaxes(1, 2)
    o = weights @ v.repeat(4 // n_kv_heads, axis=1)  # (B, H, T, Dh)
    y = o.swapaxes(1, 2).reshape(x.shape) @ store["attn.o_proj.weight"].data.T
    np.testing.assert_allclose(y, layer.forward(x)[0])


def test_swiglu(rng):
    store = ParamStore()
    layer = SwiGLU(store, "mlp", 5, 8, 1.0, 1.0)
    randomized(store, rng)
    x = rng.standard_normal((2, 3, 5))
    gate, up = x @ layer.gate_proj.weight.data.T, x @ layer.up_proj.weight.data.T
    np.testing.assert_allclose(
        layer.forward(x)[0], (gate / (1 + np.exp(-gate)) * up) @ layer.down_proj.weight.data.T, rtol=1e-10
    )
    check_layer(lambda: layer.forward(x), layer.backward, x, store)


def test_sigmoid_has_no_warning_and_no_nan_at_the_ends():
    x = np.array([-1e4, -100, 0, 100, 1e4], np.float32)
    assert functional.sigmoid(x).tolist()[::2] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_block(rng, p):
    store = ParamStore()
    layer = Block(
        store, "block", dim=8, n_heads=2, n_kv_heads=1, ffn_dim=12, norm_eps=1e-5, dropout=p, init_std=1.0, out_std=1.0,
        freqs_cis=precompute_freqs_cis(6, rotary_frequencies(4, 100.0), np.float64), observe=unobserved,
        layers=PLAIN,
    )  # fmt: skip
    randomized(store, rng)
    x = rng.standard_normal((2, 6, 8))

    def forward():
        # The same masks at each call, or there would be no derivative to speak of.
        return layer.forward(x, [np.random.default_rng(1), np.random.default_rng(2)])

    check_layer(forward, layer.backward, x, store)


def test_dropout_keeps_the_mean_and_the_right_share(rng):
    x = np.ones((2, 200, 100), np.float32)
    y, _ = functional.dropout(x, 0.25, [np.random.default_rng(1), np.random.default_rng(2)])
    assert y.dtype == np.float32
    assert set(np.unique(y).tolist()) == {0.0, np.float32(1 / 0.75).item()}
    assert abs(float((y == 0).mean()) - 0.25) < 0.01
    assert not np.array_equal(y[0], y[1])
    assert functional.dropout(x, 0.25, None)[0] is x


@pytest.mark.parametrize("chunk_rows", [100, 5, 1])
@pytest.mark.parametrize("grad_rows", [100, 4])
def test_loss_head(rng, monkeypatch, chunk_rows, grad_rows):
    store = ParamStore()
    weight = store.declare("weight", (11, 4), "head", 1.0)
    monkeypatch.setattr(loss_head, "CHUNK_LOGITS", chunk_rows * 11)
    monkeypatch.setattr(loss_head, "GRAD_ROWS", grad_rows)
    randomized(store, rng)
    head = LossHead(weight)
    h, targets = rng.standard_normal((3, 4, 4)), rng.integers(0, 11, (3, 4))
    loss, cache = head.forward(h, targets)
    assert loss == pytest.approx(plain_cross_entropy((h @ weight.data.T).reshape(12, 11), targets.ravel()), rel=1e-12)
    dh = head.backward(0.7, cache)

    def scalar() -> float:
        return 0.7 * head.forward(h, targets)[0]

    check_gradient(scalar, h, dh, rng, "dh")
    check_gradient(scalar, weight.data, weight.grad, rng, "weight")


@pytest.mark.parametrize("chunk_rows", [100, 5, 1])
@pytest.mark.parametrize("none", [0, 5, 12])
def test_loss_head_leaves_out_targets_that_do_not_count(rng, monkeypatch, chunk_rows, none):
    store = ParamStore()
    weight = store.declare("weight", (11, 4), "head", 1.0)
    monkeypatch.setattr(loss_head, "CHUNK_LOGITS", chunk_rows * 11)
    randomized(store, rng)
    head = LossHead(weight)
    h, targets = rng.standard_normal((3, 4, 4)), rng.integers(0, 11, (3, 4))
    out = rng.permutation(12)[:none]
    targets.ravel()[out] = -1
    kept = np.delete(np.arange(12), out)
    loss, cache = head.forward(h, targets)
    logits = h.reshape(12, 4)[kept] @ weight.data.T
    assert loss == pytest.approx(plain_cross_entropy(logits, targets.ravel()[kept]) if none < 12 else 0.0, rel=1e-12)
    dh = head.backward(0.7, cache)
    assert not dh.reshape(12, 4)[out].any()
    if none == 12:
        assert not dh.any()
        assert not weight.grad.any()
        return

    def scalar() -> float:
        return 0.7 * head.forward(h, targets)[0]

    check_gradient(scalar, h, dh, rng, "dh")
    check_gradient(scalar, weight.data, weight.grad, rng, "weight")


def test_loss_head_survives_huge_logits():
    store = ParamStore()
    weight = store.declare("weight", (3, 2), "head", 1.0)
    store.allocate(np.float32)
    weight.data[...] = [[1e4, 0], [0, 1e4], [0, 0]]
    loss, cache = LossHead(weight).forward(np.ones((1, 2, 2), np.float32), np.array([[0, 2]]))
    assert loss == pytest.approx(np.log(2) + 1e4 + np.log(2))
    assert np.isfinite(LossHead(weight).backward(1.0, cache)).all()


def peak_of_loss_head(vocab: int, dim: int, rows: int) -> int:
    """The bytes that both passes take at most, beyond the weight, its gradient, and what goes in."""
    store = ParamStore()
    weight = store.declare("weight", (vocab, dim), "head", 1.0)
    store.allocate(np.float32)
    h, targets = np.zeros((1, rows, dim), np.float32), np.zeros((1, rows), np.int32)
    tracemalloc.start()
    loss, cache = LossHead(weight).forward(h, targets)
    LossHead(weight).backward(1.0, cache)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert loss == pytest.approx(rows * np.log(vocab))
    return peak


def test_loss_head_never_holds_more_than_a_chunk_of_logits():
    assert peak_of_loss_head(vocab=128_000, dim=8, rows=1024) < 150e6  # of 524 MB in all


def test_loss_head_adds_to_the_gradient_without_another_as_large():
    assert peak_of_loss_head(vocab=32_000, dim=512, rows=16) < 7e6  # of 66 MB
