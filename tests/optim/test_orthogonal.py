import numpy as np
import pytest

from dist_llm.optim.orthogonal import CONSTANT, SQUARES, WEIGHTS, orthogonalize


def orthogonalized(x: np.ndarray) -> np.ndarray:
    before, out = x.copy(), np.full_like(x, np.nan)
    orthogonalize(x, out)
    assert np.array_equal(x, before, equal_nan=True)
    return out


SHAPES = [(6, 6), (5, 12), (12, 5), (1, 4), (4, 1), (192, 512)]


def of_singular_values(s: np.ndarray) -> np.ndarray:
    """What becomes of singular values of at most 1."""
    squares = [s**2, s**4]
    for i, (c, b, a) in enumerate(SQUARES, 1):
        squares.append((c + b * squares[i - 1] + a * squares[i]) ** 2)
    return s * (CONSTANT + sum(weight * square for weight, square in zip(WEIGHTS, squares, strict=True)))


def plain(x: np.ndarray) -> np.ndarray:
    """The same polynomial of the singular values, by a singular value decomposition in float64."""
    u, s, vt = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    return (u * of_singular_values(s / (s**8).sum() ** (1 / 8))) @ vt


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
        np.testing.assert_allclose(np.linalg.svd(result, compute_uv=False), 1, atol=0.62)
        # The singular vectors are the same: between those of x the result is diagonal.
        between = u.T @ result @ v
        np.testing.assert_allclose(between, np.diag(np.diag(between)), atol=2e-3)


def test_its_error_is_as_small_as_polynomials_of_its_degree_allow():
    s = np.geomspace(0.003, 1, 200_001)
    error = of_singular_values(s) - 1
    largest = np.abs(error).max()
    assert largest < 0.62
    # The best polynomial s f(s^2) of this degree, by its coefficients in the Chebyshev basis: Remez's exchange is
    # spared by the weights of Lawson, which grow where the error is large.
    nodes = np.geomspace(0.003, 1, 1000)
    basis = np.polynomial.chebyshev.chebvander(nodes, 2 * 2 ** (len(SQUARES) + 1) + 1)[:, 1::2]
    weights = np.full(len(nodes), 1 / len(nodes))
    for _ in range(300):
        root = np.sqrt(weights)
        coefficients = np.linalg.lstsq(basis * root[:, None], root, rcond=None)[0]
        errors = np.abs(basis @ coefficients - 1)
        weights *= errors
        weights /= weights.sum()
    best = errors.max()
    assert largest < 1.15 * best, (largest, best)
    # Only its singular values below the interval come out smaller, and none of them with the other sign.
    assert (of_singular_values(np.geomspace(1e-8, 0.003, 1000)) > 0).all()


def test_zeros_stay_zeros_and_what_is_not_finite_does_not_become_so():
    assert not orthogonalized(np.zeros((3, 4), np.float32)).any()
    x = np.ones((3, 4), np.float32)
    x[1, 1] = np.nan
    assert np.isnan(orthogonalized(x)).all()
