"""The compiled layers against those that one reads, over random shapes."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dist_llm.fast.selection import missing

if lacking := missing():
    pytest.skip(lacking, allow_module_level=True)
from dist_llm.fast.causal_attention import attention, attention_backward, kept_rows
from dist_llm.fast.layers import FAST
from dist_llm.model.layers import PLAIN
from dist_llm.model.params import ParamStore
from dist_llm.model.rope import precompute_freqs_cis, rotary_frequencies


def both(make):
    """The plain layer in float64 and the fast one in float32, with the same weights."""
    layers = []
    for types, dtype in ((PLAIN, np.float64), (FAST, np.float32)):
        store = ParamStore()
        layer = make(types, store, dtype)
        store.allocate(dtype)
        rng = np.random.default_rng(7)
        for param in store:
            param.data[...] = (
                rng.uniform(0.5, 1.5, param.shape)
                if param.init_std is None
                else rng.normal(0, param.shape[-1] ** -0.5, param.shape)
            )
        layers.append((layer, store))
    return layers


def compare(layers, x, dy, tolerance):
    """Outputs, gradients of the input and of each parameter, relative to their root mean square."""
    results = []
    for layer, store in layers:
        dtype = store.data.dtype
        y, cache = layer.forward(x.astype(dtype))
        dx = layer.backward(dy.astype(dtype), cache)
        results.append({"y": y, "dx": dx, **{f"d{param.name}": param.grad.copy() for param in store}})
    # A gradient may be a small difference of large numbers, as that of the queries is where there are few keys.
    largest = max(rms(expected) for name, expected in results[0].items() if name != "y")
    for name, expected in results[0].items():
        error = rms(results[1][name] - expected) / (rms(expected) if name == "y" else max(rms(expected), largest / 4))
        assert error < tolerance, (name, error)


def rms(x):
    """The root of the mean square."""
    return np.sqrt(np.square(x, dtype=np.float64).mean())


shapes = st.tuples(st.integers(1, 3), st.integers(1, 140))


@settings(deadline=None, max_examples=40)
@given(shapes, st.integers(8, 130), st.integers(0, 2**32))  # with fewer, dx is a small difference of large numbers
def test_rmsnorm(shape, dim, seed):
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((2, *shape, dim))
    compare(both(lambda types, store, dtype: types.norm(store, "norm", dim, 1e-5)), x, dy, 1e-5)


@settings(deadline=None, max_examples=40)
@given(shapes, st.integers(8, 100), st.integers(8, 150), st.integers(0, 2**32))
def test_feed_forward(shape, dim, ffn_dim, seed):
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((2, *shape, dim))
    compare(both(lambda types, store, dtype: types.feed_forward(store, "mlp", dim, ffn_dim, 1.0, 1.0)), x, dy, 0.03)


@settings(deadline=None, max_examples=60)
@given(
    shapes,
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 50).map(lambda half: 2 * half),
    st.sampled_from([1.0, 4.0]),
    st.integers(0, 2**32),
)
def test_attention(shape, n_kv_heads, group, head_dim, size, seed):
    assume(size == 1 or min(shape[1], head_dim) >= 8)
    rng = np.random.default_rng(seed)
    dim = n_kv_heads * group * head_dim
    x, dy = rng.standard_normal((2, *shape, dim))

    def make(types, store, dtype):
        freqs_cis = precompute_freqs_cis(shape[1], rotary_frequencies(head_dim, 1e4), dtype)
        return types.attention(store, "attn", dim, n_kv_heads * group, n_kv_heads, freqs_cis, 1.0, 1.0)

    compare(both(make), size * x, dy, 0.03 if size == 1 else 0.2)


@settings(deadline=None, max_examples=40)
@given(shapes, st.integers(1, 100), st.integers(2, 300), st.integers(0, 2**32))
def test_loss_head(shape, dim, vocab_size, seed):
    rng = np.random.default_rng(seed)
    h, targets = rng.standard_normal((*shape, dim)), rng.integers(-1, vocab_size, shape)
    (plain, store), (fast, fast_store) = both(
        lambda types, store, dtype: types.loss_head(store.declare("head", (vocab_size, dim), "head", 1.0))
    )
    loss, cache = plain.forward(h, targets)
    fast_loss, fast_cache = fast.forward(h.astype(np.float32), targets)
    assert fast_loss == pytest.approx(loss, rel=0.01, abs=0.02)
    dh, fast_dh = plain.backward(0.5, cache), fast.backward(0.5, fast_cache)
    for expected, got in ((dh, fast_dh), (store.grad, fast_store.grad)):
        assert np.sqrt(np.square(got - expected).mean()) <= 0.03 * np.sqrt(np.square(expected).mean()) + 1e-7


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 2),
    st.integers(1, 200),
    st.integers(1, 2),
    st.integers(1, 2),
    st.integers(1, 50).map(lambda half: 2 * half),
    st.booleans(),
)
def test_attention_reads_and_writes_nothing_outside(B, T, n_kv_heads, group, head_dim, keep):
    rng = np.random.default_rng(T)
    n_heads, border = n_kv_heads * group, 100
    width = (n_heads + 2 * n_kv_heads) * head_dim

    def inside(shape, around, dtype=np.float32):
        memory = np.full(int(np.prod(shape)) + 2 * border, around, dtype)
        return memory[border:-border].reshape(shape), memory

    qkv, _ = inside((B * T * width,), np.nan)
    qkv[...] = rng.standard_normal(qkv.shape)
    turns, _ = inside((T, head_dim), np.nan)
    turns[...] = precompute_freqs_cis(T, rotary_frequencies(head_dim, 1e4), np.float32).view(np.float32)
    do, _ = inside((B, T, n_heads * head_dim), np.nan)
    do[...] = rng.standard_normal(do.shape)
    o, o_memory = inside(do.shape, 5.0)
    sums, sums_memory = inside((B, n_heads, T), 5.0)
    dqkv, dqkv_memory = inside(qkv.shape, 5.0)
    kept, kept_memory = inside((B, n_heads, kept_rows(T), 32) if keep else (0, 0, 0, 0), 5, np.uint32)
    how = (turns, np.float32(head_dim**-0.5), n_heads, n_kv_heads, np.float32(40))
    attention(qkv, *how, o, sums, kept)
    attention_backward(do, o, sums, kept, qkv, *how, dqkv)
    assert np.isfinite(o).all()
    assert np.isfinite(dqkv).all()
    for memory in (o_memory, sums_memory, dqkv_memory, kept_memory):
        assert (memory[:border] == 5).all()
        assert (memory[-border:] == 5).all()
