"""Attention in tiles against attention with the full square of scores."""

import tracemalloc

import numpy as np
import pytest

from dist_llm.model import causal_attention as tiles
from dist_llm.model.causal_attention import causal_attention, causal_attention_backward
from tests.oracles.plain import plain_attention, plain_attention_backward


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("T", [1, 5, 64, 65, 150])
@pytest.mark.parametrize("G", [1, 3])
@pytest.mark.parametrize("scale", [0.5, 3])  # scores that are certain to be small, and others
@pytest.mark.parametrize("kept_bytes", [1 << 28, 0])  # tiles kept, and computed again
@pytest.mark.parametrize("heads", [4, 2, 0])  # in a tile: all, those of a sequence, one
@pytest.mark.parametrize("small_product", [10**6, 100 * 32 * 6])  # with it, the third and fourth block are halves
def test_tiles_are_the_square(rng, monkeypatch, T, G, scale, kept_bytes, heads, small_product):
    monkeypatch.setattr(tiles, "KEPT_BYTES", kept_bytes)
    monkeypatch.setattr(tiles, "SMALL_PRODUCT", small_product)
    monkeypatch.setattr(tiles, "TILE_SIZE", heads * G * T * tiles.QUERY_BLOCK)
    q = scale * rng.standard_normal((2, 2, G, T, 6))
    k, v = scale * rng.standard_normal((2, 2, 2, 1, T, 6))
    do = rng.standard_normal(q.shape)
    o, cache = causal_attention(q, k, v)
    np.testing.assert_allclose(o, plain_attention(q, k, v), rtol=1e-10, atol=1e-12)
    for got, expected in zip(causal_attention_backward(do, cache), plain_attention_backward(do, q, k, v), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("size", [1.0, 2.2, 2.3, 30.0])  # below and above SAFE_SCORE
def test_single_precision_is_enough_for_scores_of_any_size(rng, size):
    q, k, v = (x.astype(np.float32) for x in rng.standard_normal((3, 1, 2, 1, 70, 8)))
    q, k = (size * x / np.linalg.norm(x, axis=-1, keepdims=True) * np.float32(8**0.5) for x in (q, k))
    k[..., 3, :] = q[..., 50, :]  # the largest score there is,
    k[..., 4, :] = -q[..., 50, :]  # and the smallest
    do = rng.standard_normal(q.shape).astype(np.float32)
    o, cache = causal_attention(q, k, v)
    double = [x.astype(np.float64) for x in (do, q, k, v)]
    np.testing.assert_allclose(o, plain_attention(*double[1:]), atol=2e-5 * size**2)
    for got, expected in zip(causal_attention_backward(do, cache), plain_attention_backward(*double), strict=True):
        np.testing.assert_allclose(got, expected, atol=2e-5 * size**2 * np.abs(expected).max())


def test_huge_scores_stay_finite(rng):
    q, k, v = (x.astype(np.float32) for x in 1e3 * rng.standard_normal((3, 1, 1, 1, 70, 8)))
    o, cache = causal_attention(q, k, v)
    assert np.isfinite(o).all()
    assert all(np.isfinite(d).all() for d in causal_attention_backward(np.ones_like(o), cache))


@pytest.mark.parametrize("size", [1.0, 30.0])
def test_kept_tiles_and_those_computed_again_give_the_same_bits(rng, monkeypatch, size):
    q, k, v, do = (size * rng.standard_normal((4, 2, 3, 1, 700, 32))).astype(np.float32)
    results = []
    for kept_bytes in (1 << 28, 0):
        monkeypatch.setattr(tiles, "KEPT_BYTES", kept_bytes)
        o, cache = causal_attention(q, k, v)
        results.append([o, *causal_attention_backward(do, cache)])
    for kept, again in zip(*results, strict=True):
        assert np.array_equal(kept, again)


@pytest.mark.parametrize(
    ("T", "Dh", "expected"),
    [
        (150, 32, [0, 64, 128, 150]),
        (600, 32, [0, 64, 128, 192, 256, 320, 384, 448, 480, 512, 544, 576, 600]),
        (1100, 32, [*range(0, 448, 64), *range(448, 960, 32), 960, 1024, 1088, 1100]),
        (300, 512, [0, 32, 96, 160, 224, 288, 300]),
    ],
)
def test_queries_come_in_half_blocks_where_that_makes_products_small(T, Dh, expected):
    assert tiles._blocks(T, Dh) == expected


def test_a_long_sequence_holds_few_tiles_at_once(rng, monkeypatch):
    monkeypatch.setattr(tiles, "KEPT_BYTES", 0)
    T, heads = 2048, 4
    q, k, v = rng.standard_normal((3, 1, heads, 1, T, 8)).astype(np.float32)
    tracemalloc.start()
    o, cache = causal_attention(q, k, v)
    causal_attention_backward(q, cache)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert o.shape == q.shape
    whole_square = heads * T * T * 4
    assert peak < whole_square / 8
