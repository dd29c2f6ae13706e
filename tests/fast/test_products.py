"""Compiled products: as exact as their numbers allow, for all shapes, and nothing read or written outside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_llm.fast.selection import missing

if lacking := missing("float32-compiled"):
    pytest.skip(lacking, allow_module_level=True)
from dist_llm.fast.instructions import PAIRS, SINGLES
from dist_llm.fast.products import ROWS, TILE_ROWS, WIDTH, WORDS, product

BORDER = 70
# A float32 number x becomes a bfloat16 number, of 8 bits, with an error of at most 2^-8 |x|, and the product of two of
# them is exact in float32; so a sum of products is off by at most 2^-7 + 2^-16 of the sum of their absolute values, and
# by what adding n float32 numbers adds.
KINDS = [
    pytest.param(
        (PAIRS, 2.0**-7 + 2.0**-16),
        marks=pytest.mark.skipif(missing("bfloat16") is not None, reason="no AVX512-BF16"),
        id="bfloat16",
    ),
    pytest.param((SINGLES, 2.0**-24), id="float32"),
]
of_both_kinds = pytest.mark.parametrize("kind", KINDS)


def bordered(array: np.ndarray, border: float) -> tuple[np.ndarray, np.ndarray]:
    """A copy of an array with something before and after it in memory, and that memory."""
    memory = np.full(array.size + 2 * BORDER, border, np.float32)
    inner = memory[BORDER:-BORDER].reshape(array.shape)
    inner[...] = array
    return inner, memory


def check(
    m: int,
    n: int,
    depth: int,
    x_transposed: bool,
    w_transposed: bool,
    add: bool,
    seed: int,
    kind: tuple[np.ndarray, float],
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((m, depth)), rng.standard_normal((depth, n))
    x, _ = bordered(a.T if x_transposed else a, np.nan)
    w, _ = bordered(b.T if w_transposed else b, np.nan)
    out, memory = bordered(rng.standard_normal((m, n)), 123.0)
    before = out.astype(np.float64)
    words, rounding = kind
    product(x, x_transposed, w, w_transposed, out, add, words)
    x64, w64 = x.astype(np.float64), w.astype(np.float64)
    a, b = x64.T if x_transposed else x64, w64.T if w_transposed else w64
    expected, size = a @ b, np.abs(a) @ np.abs(b)
    if add:
        expected, size = expected + before, size + np.abs(before)
    assert (np.abs(out - expected) <= (rounding + (depth + 1) * 2.0**-24) * size).all()
    assert (memory[:BORDER] == 123).all()
    assert (memory[-BORDER:] == 123).all()


sizes = st.integers(1, 150)


@of_both_kinds
@settings(deadline=None, max_examples=200, derandomize=True)
@given(sizes, sizes, sizes, st.booleans(), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_products_of_any_shape(kind, m, n, depth, x_transposed, w_transposed, add, seed):
    check(m, n, depth, x_transposed, w_transposed, add, seed, kind)


@of_both_kinds
@pytest.mark.parametrize("x_transposed", [False, True])
@pytest.mark.parametrize("w_transposed", [False, True])
@pytest.mark.parametrize(
    ("m", "n", "depth"),
    [
        (TILE_ROWS, WIDTH, 2),
        (2 * TILE_ROWS, 2 * WIDTH, 32),
        (ROWS, WIDTH, 2 * WORDS),
        (ROWS + 1, WIDTH + 1, 2 * WORDS + 1),
        (2 * ROWS - 1, 3 * WIDTH - 1, 4 * WORDS - 1),
    ],
)
def test_products_of_more_than_fits_into_the_cache(kind, m, n, depth, x_transposed, w_transposed):
    check(m, n, depth, x_transposed, w_transposed, False, 1, kind)
    check(m, n, depth, x_transposed, w_transposed, True, 2, kind)


def test_what_would_be_written_to_the_wrong_place_is_refused():
    x, w = np.ones((8, 40), np.float32), np.ones((70, 40), np.float32)
    with pytest.raises(AssertionError):
        product(x, False, w, True, np.empty((8, 71), np.float32)[:, 1:], False, SINGLES)
    with pytest.raises(AssertionError):
        product(x.astype(np.float64), False, w, True, np.empty((8, 70), np.float32), False, SINGLES)


@of_both_kinds
def test_numbers_that_are_none_stay_so(kind):
    x, w = np.ones((8, 40), np.float32), np.ones((70, 40), np.float32)
    x[3, 5], w[7, 9] = np.nan, np.inf
    out = np.empty((8, 70), np.float32)
    product(x, False, w, True, out, False, kind[0])
    assert np.isnan(out[3]).all()
    assert np.isinf(out[:3, 7]).all()
    assert np.isfinite(np.delete(np.delete(out, 3, 0), 7, 1)).all()
