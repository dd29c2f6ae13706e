"""Compiled decoding against the same model in float64, over random shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_llm.config import ModelConfig
from dist_llm.inference.generation import generate
from dist_llm.inference.kv_cache import new_kv_cache
from dist_llm.inference.sampler import Sampler
from dist_llm.model import llama
from dist_llm.text import train_tokenizer

pytest.importorskip("numba")
from dist_llm.fast import decoding

EPS = 2.0**-24  # float32 rounds by at most so much of a number

shapes = st.builds(
    lambda half, n_kv_heads, group, **rest: ModelConfig(
        dim=2 * half * n_kv_heads * group, n_heads=n_kv_heads * group, n_kv_heads=n_kv_heads, init_std=0.2, **rest
    ),
    st.integers(1, 40),
    st.integers(1, 3),
    st.integers(1, 3),
    n_layers=st.integers(1, 3),
    ffn_dim=st.integers(1, 150),
    max_seq_len=st.integers(1, 40),
    tie_embeddings=st.booleans(),
)


def with_weights(kind, config, vocab_size, dtype=np.float32):
    model = kind(config, vocab_size, dtype)
    model.params.initialize(np.random.default_rng(3))
    model.params.data[...] = model.params.data.astype(np.float32)
    return model


@settings(deadline=None, max_examples=60, derandomize=True)
@given(shapes, st.integers(1, 90), st.integers(0, 40))
def test_logits_of_any_shape(config, vocab_size, prefill):
    exact = with_weights(llama.Llama, config, vocab_size, np.float64)
    models = [with_weights(kind, config, vocab_size) for kind in (llama.Llama, decoding.Llama)]
    tokens = np.random.default_rng(5).integers(0, vocab_size, (1, config.max_seq_len))
    prefill = min(prefill, config.max_seq_len - 1)
    caches = [new_kv_cache(model) for model in (exact, *models)]
    pieces = [(0, prefill)] * (prefill > 0) + [(t, t + 1) for t in range(prefill, config.max_seq_len)]
    plain_errors, errors = [], []
    for start, stop in pieces:
        expected, plain, fast = (
            model.decode(tokens[:, start:stop], start, cache)
            for model, cache in zip((exact, *models), caches, strict=True)
        )
        size = np.sqrt(np.square(expected).mean())
        plain_errors.append(np.abs(plain - expected).max() / size)
        errors.append(np.abs(fast - expected).max() / size)
    # Both round every number about as often, in another order: neither is to be much worse than the other.
    longest = max(config.dim, config.ffn_dim, config.max_seq_len)
    assert max(errors) <= 4 * max(plain_errors) + 4 * longest**0.5 * EPS * config.n_layers


@settings(deadline=None, max_examples=30, derandomize=True)
@given(shapes, st.integers(1, 90))
def test_nothing_is_read_or_written_outside(config, vocab_size):
    model, border = with_weights(decoding.Llama, config, vocab_size), 100

    def inside(array, around):
        memory = np.full(array.size + 2 * border, around, np.float32)
        memory[border:-border] = array.ravel()
        return memory[border:-border].reshape(array.shape), memory

    cache, cache_memory = inside(np.full_like(new_kv_cache(model), np.nan), 5)
    logits, logits_memory = inside(np.zeros(vocab_size), 5)
    weights, _ = inside(model.params.data, np.nan)
    turns, _ = inside(model.freqs_cis.view(np.float32), np.nan)
    for position in range(config.max_seq_len):
        decoding.decode(
            vocab_size - 1, position, weights, model._offsets, model.norm.gain.offset, model.loss_head.weight.offset,
            np.float32(config.norm_eps), config.n_heads, config.ffn_dim, turns, cache, logits,
        )  # fmt: skip
        assert np.isfinite(logits).all()
        assert np.isfinite(cache[..., : position + 1, :]).all()
        assert np.isnan(cache[..., position + 1 :, :]).all()
    for memory in (cache_memory, logits_memory):
        assert (memory[:border] == 5).all()
        assert (memory[-border:] == 5).all()


def test_generation_beyond_the_context_is_the_plain_one():
    tokenizer = train_tokenizer("byte", [], 0)
    config = ModelConfig(dim=48, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=80, max_seq_len=20, init_std=0.1)
    written = []
    for kind in (llama.Llama, decoding.Llama):
        model = with_weights(kind, config, 260)
        prompt, rng = tokenizer.encode("abc"), np.random.default_rng(1)
        written.append(list(generate(model, tokenizer, prompt, 50, Sampler(), rng)))
    assert written[0] == written[1]
    assert len(set(written[0])) > 5
