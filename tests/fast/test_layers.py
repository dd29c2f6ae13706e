"""The compiled layers against the same in float64, operands rounded to bfloat16 or not, over random shapes."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_llm.config import ModelConfig
from dist_llm.fast.selection import missing

if lacking := missing("float32-compiled"):
    pytest.skip(lacking, allow_module_level=True)
from dist_llm.fast import loss_head
from dist_llm.fast.causal_attention import QUERIES, attention, attention_backward, kept_rows
from dist_llm.fast.instructions import PAIRS, SINGLES
from dist_llm.fast.layers import LAYERS
from dist_llm.fast.packing import words_of
from dist_llm.fast.processor import has
from dist_llm.model.layers import PLAIN
from dist_llm.model.llama import Llama
from dist_llm.model.params import ParamStore
from dist_llm.model.rope import precompute_freqs_cis, rotary_frequencies
from tests.oracles.bfloat16 import ROUNDED

# A rounding to bfloat16 that falls the other way changes a number by up to 2^-7 of it. Without such, there is only
# float32's of 2^-24, some thousands of which add up as their root does.
ORACLES = {"bfloat16": ROUNDED, "float32-compiled": PLAIN}
TOLERANCES = {"bfloat16": 2.0**-7, "float32-compiled": 2.0**-18}
ABLE = [precision for precision in ORACLES if missing(precision) is None]
of_each_precision = pytest.mark.parametrize("precision", ABLE)

of_any_shape = settings(deadline=None, max_examples=60, derandomize=True)


def both(precision, make):
    """The layer in float64 that is exact, or rounds what it multiplies, and the fast one, with the same weights."""
    layers = []
    for types, dtype in ((ORACLES[precision], np.float64), (LAYERS[precision], np.float32)):
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


def assert_alike(got, expected, tolerance, size=0.0):
    """The root mean square of the differences is small beside that of what is expected, or beside a size."""
    error, own = (np.sqrt(np.square(x, dtype=np.float64).mean()) for x in (got - expected, expected))
    assert error <= tolerance * max(own, size)


def compare(layers, x, dy, tolerance):
    """Outputs, the gradient of the input, and that of each parameter."""
    results = []
    for layer, store in layers:
        y, cache = layer.forward(x.astype(np.float32).astype(store.data.dtype))
        dx = layer.backward(dy.astype(np.float32).astype(store.data.dtype), cache)
        results.append((y, dx, *(param.grad for param in store)))
    # A gradient may be a small difference of large numbers, as that of the queries is where there are few keys, or all
    # attend to one: there, every rounding of those shows.
    size = max(np.sqrt(np.square(gradient).mean()) for gradient in results[0][1:])
    for i, (expected, got) in enumerate(zip(*results, strict=True)):
        assert_alike(got, expected, tolerance, size if i else 0.0)


shapes = st.tuples(st.integers(1, 3), st.integers(1, 140))


@of_each_precision
@of_any_shape
@given(shapes, st.integers(8, 130), st.integers(0, 2**32))
def test_rmsnorm(precision, shape, dim, seed):
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((2, *shape, dim))

    def make(types, store, dtype):
        return types.norm(store, "norm", dim, 1e-5)

    compare(both(precision, make), x, dy, TOLERANCES[precision])


@of_each_precision
@of_any_shape
@given(shapes, st.integers(1, 100), st.integers(1, 150), st.integers(0, 2**32))
def test_feed_forward(precision, shape, dim, ffn_dim, seed):
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((2, *shape, dim))

    def make(types, store, dtype):
        return types.feed_forward(store, "mlp", dim, ffn_dim, 1.0, 1.0)

    compare(both(precision, make), x, dy, TOLERANCES[precision])


@of_each_precision
@of_any_shape
@given(
    shapes,
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 50).map(lambda half: 2 * half),
    st.sampled_from([1.0, 4.0]),
    st.integers(0, 2**32),
)
def test_attention(precision, shape, n_kv_heads, group, head_dim, size, seed):
    rng = np.random.default_rng(seed)
    dim = n_kv_heads * group * head_dim
    x, dy = rng.standard_normal((2, *shape, dim))

    def make(types, store, dtype):
        freqs_cis = precompute_freqs_cis(shape[1], rotary_frequencies(head_dim, 1e4), dtype)
        return types.attention(store, "attn", dim, n_kv_heads * group, n_kv_heads, freqs_cis, 1.0, 1.0)

    tolerance = TOLERANCES[precision]
    if precision == "float32-compiled":
        tolerance *= size**2  # as large as the scores are, so are their roundings, which are those of the exponentials
    compare(both(precision, make), size * x, dy, tolerance)


@of_each_precision
@of_any_shape
@given(shapes, st.integers(1, 100), st.integers(2, 300), st.sampled_from([1000, 1 << 18]), st.integers(0, 2**32))
def test_loss_head(precision, shape, dim, vocab_size, part_logits, seed):
    rng = np.random.default_rng(seed)
    h, targets = rng.standard_normal((*shape, dim)).astype(np.float32), rng.integers(-1, vocab_size, shape)
    (plain, store), (fast, fast_store) = both(
        precision,
        lambda types, store, dtype: types.loss_head(store.declare("head", (vocab_size, dim), "head", 1.0)),
    )
    loss, cache = plain.forward(h.astype(np.float64), targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_head, "PART_LOGITS", part_logits)
        fast_loss, fast_cache = fast.forward(h, targets)
        fast_dh = fast.backward(0.5, fast_cache)
    assert fast_loss == pytest.approx(loss, rel=1e-4, abs=1e-4)
    assert_alike(fast_dh, plain.backward(0.5, cache), TOLERANCES[precision])
    assert_alike(fast_store.grad, store.grad, TOLERANCES[precision])


@pytest.mark.parametrize("kind", [PAIRS, SINGLES][missing("bfloat16") is not None :])
@of_any_shape
@given(
    st.integers(1, 2),
    st.integers(1, 200),
    st.integers(1, 2),
    st.integers(1, 2),
    st.integers(1, 50).map(lambda half: 2 * half),
    st.booleans(),
)
def test_attention_reads_and_writes_nothing_outside(kind, B, T, n_kv_heads, group, head_dim, keep):
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
    kept, kept_memory = inside(
        (B, n_heads, kept_rows(T), words_of(QUERIES, kind)) if keep else (0, 0, 0, 0), 5, kind.dtype
    )
    how = (turns, np.float32(head_dim**-0.5), n_heads, n_kv_heads, np.float32(40))
    attention(qkv, *how, o, sums, kept, 0, B * n_kv_heads)
    attention_backward(do, o, sums, kept, qkv, *how, dqkv, 0, B * n_kv_heads)
    assert np.isfinite(o).all()
    assert np.isfinite(dqkv).all()
    for memory in (o_memory, sums_memory, dqkv_memory, kept_memory):
        assert (memory[:border] == 5).all()
        assert (memory[-border:] == 5).all()


@of_each_precision
def test_a_model_of_them_does_nearly_what_the_plain_one_does(precision):
    config = ModelConfig(dim=48, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=80, max_seq_len=100)
    tokens, targets = np.random.default_rng(1).integers(0, 90, (2, 3, 100))
    results = []
    for layers in (PLAIN, LAYERS[precision]):
        model = Llama(config, 90, layers=layers)
        model.params.initialize(np.random.default_rng(2))
        loss, cache = model.loss(tokens, targets)
        model.loss_backward(1.0, cache)
        results.append((loss, model.params.grad))
    (loss, grad), (fast_loss, fast_grad) = results
    assert fast_loss == pytest.approx(loss, rel=1e-3)
    near = 0.02 if precision == "bfloat16" else 1e-5
    assert 0 < np.linalg.norm(fast_grad - grad) < near * np.linalg.norm(grad)


def test_they_are_as_good_on_a_processor_that_has_only_avx2():
    """These tests in a process for which numba compiles so: other shapes of tiles, and nothing of bfloat16."""
    if platform.machine() != "x86_64" or not has("avx2") or "NUMBA_CPU_NAME" in os.environ:
        pytest.skip("needs AVX2")
    features = (
        "64bit avx avx2 bmi bmi2 cmov cx16 cx8 f16c fma fxsr lzcnt mmx movbe popcnt sse sse2 sse3 ssse3 sse4.1 sse4.2"
    )
    environment = os.environ | {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+" + features.replace(" ", ",+")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *map(str, Path(__file__).parent.glob("test_*.py")),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "passed" in done.stdout
