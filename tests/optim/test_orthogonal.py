import numpy as np
import pytest

from dist_llm.optim.orthogonal import COEFFICIENTS, orthogonalize


def orthogonalized(x: np.ndarray) -> np.ndarray:
    before, out = x.copy(), np.full_like(x, np.nan)
    orthogonalize(x, out)
    assert np.array_equal(x, before, equal_nan=True)
    return out


SHAPES = [(6, 6), (5, 12), (12, 5), (1, 4), (4, 1), (192, 512)]


def plain(x: np.ndarray) -> np.ndarray:
    """The same polynomials of the singular values, by a singular value decomposition in float64."""
    u, s, vt = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    s = s / (s**8).sum() ** (1 / 8)
    for a, b, c in COEFFICIENTS:
        s = a * s + b * s**3 + c * s**5
    return (u * s) @ vt


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_polynomials_of_the_singular_values(shape):
    x = np.random.default_rng(1).standard_normal(shape)
    np.testing.assert_allclose(orthogonalized(x), plain(x), atol=1e-9)
    np.testing.assert_allclose(orthogonalized(x.astype(np.float32)), plain(x), atol=2e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_are_near_one_whatever_the_scale(shape):
    rng = np.random.default_rng(2)
    for scale in (1e-8, 1.0, 1e8):
        n = min(shape)
        u, _ = np.linalg.qr(rng.standard_normal((shape[0], n)))
        v, _ = np.linalg.qr(rng.standard_normal((shape[1], n)))
        s = scale * np.geomspace(0.01, 1, n)
        x = ((u * s) @ v.T).astype(np.float32)
        result = orthogonalized(x)
        np.testing.assert_allclose(np.linalg.svd(result, compute_uv=False), 1, atol=0.65)
        # The singular vectors are the same: between those of x the result is diagonal.
        between = u.T @ result @ v
        np.testing.assert_allclose(between, np.diag(np.diag(between)), atol=2e-3)


def test_no_interval_and_number_of_iterations_has_better_coefficients():
    # An odd polynomial of three terms is the best on an interval if its error swings to its full height four times.
    low, high = 0.003, 1.0
    for coefficients in COEFFICIENTS:
        s = np.geomspace(low, high, 200_001)
        a, b, c = coefficients
        error = a * s + b * s**3 + c * s**5 - 1
        largest = np.abs(error).max()
        swings = np.sign(error[np.abs(error) > largest * 0.999])
        assert 1 + (np.diff(swings) != 0).sum() == 4
        low, high = 1 - largest, 1 + largest


def test_zeros_stay_zeros_and_what_is_not_finite_does_not_become_so():
    assert not orthogonalized(np.zeros((3, 4), np.float32)).any()
    x = np.ones((3, 4), np.float32)
    x[1, 1] = np.nan
    assert np.isnan(orthogonalized(x)).all()
