"""The compiled layers against the same in float64 with operands rounded to bfloat16, over random shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_llm.config import ModelConfig
from dist_llm.fast.selection import missing

if lacking := missing():
    pytest.skip(lacking, allow_module_level=True)
from dist_llm.fast.causal_attention import attention, attention_backward, kept_rows
from dist_llm.fast.layers import FAST
from dist_llm.model.layers import PLAIN
from dist_llm.model.llama import Llama
from dist_llm.model.params import ParamStore
from dist_llm.model.rope import precompute_freqs_cis, rotary_frequencies
from tests.oracles.bfloat16 import ROUNDED

# A rounding to bfloat16 that falls the other way changes a number by up to 2^-7 of it.
TOLERANCE = 2.0**-7

of_any_shape = settings(deadline=None, max_examples=60, derandomize=True)


def both(make):
    """The layer in float64 that rounds what it multiplies and the fast one, with the same weights."""
    layers = []
    for types, dtype in ((ROUNDED, np.float64), (FAST, np.float32)):
        store = ParamStore()
        layer = make(types, store, dtype)
        store.allocate(dtype)
        rng = np.random.default_rng(7)
        for param in store:
            gain, width = param.init_std is None, param.shape[-1] ** -0.5
            values = rng.uniform(0.5, 1.5, param.shape) if gain else rng.normal(0, width, param.shape)
            param.data[...] = values.astype(np.float32)
        layers.append((layer, store))
    return layers


def assert_alike(got, expected, size=0.0):
    """The root mean square of the differences is small beside that of what is expected, or beside a size."""
    error, own = (np.sqrt(np.square(x, dtype=np.float64).mean()) for x in (got - expected, expected))
    assert error <= TOLERANCE * max(own, size)


def compare(layers, x, dy):
    """Outputs, the gradient of the input, and that of each parameter."""
    results = []
    for layer, store in layers:
        y, cache = layer.forward(x.astype(np.float32).astype(store.data.dtype))
        dx = layer.backward(dy.astype(np.float32).astype(store.data.dtype), cache)
        results.append((y, dx, *(param.grad for param in store)))
    # A gradient may be a small difference of large numbers, as that of the queries is where there are few keys.
    size = max(np.sqrt(np.square(gradient).mean()) for gradient in results[0][1:]) / 16
    for i, (expected, got) in enumerate(zip(*results, strict=True)):
        assert_alike(got, expected, size if i else 0.0)


shapes = st.tuples(st.integers(1, 3), st.integers(1, 140))


@of_any_shape
@given(shapes, st.integers(8, 130), st.integers(0, 2**32))
def test_rmsnorm(shape, dim, seed):
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((2, *shape, dim))
    compare(both(lambda types, store, dtype: types.norm(store, "norm", dim, 1e-5)), x, dy)


@of_any_shape
@given(shapes, st.integers(1, 100), st.integers(1, 150), st.integers(0, 2**32))
def test_feed_forward(shape, dim, ffn_dim, seed):
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((2, *shape, dim))
    compare(both(lambda types, store, dtype: types.feed_forward(store, "mlp", dim, ffn_dim, 1.0, 1.0)), x, dy)


@of_any_shape
@given(
    shapes,
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 50).map(lambda half: 2 * half),
    st.sampled_from([1.0, 4.0]),
    st.integers(0, 2**32),
)
def test_attention(shape, n_kv_heads, group, head_dim, size, seed):
    rng = np.random.default_rng(seed)
    dim = n_kv_heads * group * head_dim
    x, dy = rng.standard_normal((2, *shape, dim))

    def make(types, store, dtype):
        freqs_cis = precompute_freqs_cis(shape[1], rotary_frequencies(head_dim, 1e4), dtype)
        return types.attention(store, "attn", dim, n_kv_heads * group, n_kv_heads, freqs_cis, 1.0, 1.0)

    compare(both(make), size * x, dy)


@of_any_shape
@given(shapes, st.integers(1, 100), st.integers(2, 300), st.integers(0, 2**32))
def test_loss_head(shape, dim, vocab_size, seed):
    rng = np.random.default_rng(seed)
    h, targets = rng.standard_normal((*shape, dim)).astype(np.float32), rng.integers(-1, vocab_size, shape)
    (plain, store), (fast, fast_store) = both(
        lambda types, store, dtype: types.loss_head(store.declare("head", (vocab_size, dim), "head", 1.0))
    )
    loss, cache = plain.forward(h.astype(np.float64), targets)
    fast_loss, fast_cache = fast.forward(h, targets)
    assert fast_loss == pytest.approx(loss, rel=1e-4, abs=1e-4)
    assert_alike(fast.backward(0.5, fast_cache), plain.backward(0.5, cache))
    assert_alike(fast_store.grad, store.grad)


@of_any_shape
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


def test_a_model_of_them_does_nearly_what_the_plain_one_does():
    config = ModelConfig(dim=48, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=80, max_seq_len=100)
    tokens, targets = np.random.default_rng(1).integers(0, 90, (2, 3, 100))
    results = []
    for layers in (PLAIN, FAST):
        model = Llama(config, 90, layers=layers)
        model.params.initialize(np.random.default_rng(2))
        loss, cache = model.loss(tokens, targets)
        model.loss_backward(1.0, cache)
        results.append((loss, model.params.grad))
    (loss, grad), (fast_loss, fast_grad) = results
    assert fast_loss == pytest.approx(loss, rel=1e-3)
    assert 0 < np.linalg.norm(fast_grad - grad) < 0.02 * np.linalg.norm(grad)
