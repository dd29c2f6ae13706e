"""The orthogonal matrix next to a matrix: U V^T, where U S V^T is its singular value decomposition.

    A = X X^T        X = (a I + b A + c A^2) X

is a Newton-Schulz iteration: each singular value s becomes a s + b s^3 + c s^5, and nothing else changes. With the
coefficients of Polar Express (Amsel et al. 2025, arXiv 2505.16932), which differ from one iteration to the next, few
of them bring all singular values of an interval as close to 1 as polynomials can. A wide interval is worth more here
than closeness: with singular values from 0.35 to 1.65 a model learns as well as with all at 1, but not without the
small ones.

They must not begin above 1. The root of the Frobenius norm of A^2, which the first iteration needs anyway, is a bound
of the square of the largest one: (sum s^8)^(1/4) >= max s^2. It is far nearer to it than the Frobenius norm of X, and
so less is left to be done: that spares an iteration or two.
"""

import math

import numpy as np

# Optimal for singular values from 0.003 to 1.
COEFFICIENTS = (
    (8.3836736129, -24.7659058580, 18.3570818929),
    (4.0434204337, -3.0114049938, 0.5695121503),
    (3.5055706172, -2.6266538356, 0.5257194048),
)
TINY = 1e-15  # of what is divided by: a matrix of zeros stays one
SMALLEST_BOUND = 1e-6


def orthogonalize(x: np.ndarray, out: np.ndarray) -> None:
    """Find the matrix with nearly the same singular vectors whose singular values are near 1.

    Parameters
    ----------
    x : ndarray of shape (rows, columns)
    out : ndarray of shape (rows, columns)
        Receives it: singular values from 0.35 to 1.65 where those of `x` are at least 0.003 of their bound; smaller
        ones, smaller. It must not overlap `x`.
    """
    # One matrix at a time stays in the cache with all that is computed of it: a stack of them takes a sixth longer.
    tall = x.shape[0] > x.shape[1]  # then A = X^T X and X = X (a I + b A + c A^2), so that A is the smaller one
    n = min(x.shape)
    gram, square = np.empty((2, n, n), x.dtype)
    buffers = out, np.empty_like(out)
    # Divided by it, eighth powers are still numbers.
    norm = max(math.sqrt(np.vdot(x, x)), TINY)
    for i, (a, b, c) in enumerate(COEFFICIENTS):
        # A matrix times its own transpose: NumPy computes one half, and copies it into the other.
        _ = np.matmul(x.T, x, out=gram) if tall else np.matmul(x, x.T, out=gram)
        if i == 0:
            gram *= 1 / norm**2
        np.matmul(gram, gram.T, out=square)
        if i == 0:
            bound = max(math.sqrt(math.sqrt(np.vdot(square, square))), SMALLEST_BOUND)
            a, b, c = (k / bound ** (power / 2) / norm for k, power in ((a, 1), (b, 3), (c, 5)))
        gram *= b
        square *= c
        gram += square
        gram.reshape(-1)[:: n + 1] += a  # the diagonal
        result = buffers[(len(COEFFICIENTS) - 1 - i) % 2]  # the last one is out
        x = np.matmul(x, gram, out=result) if tall else np.matmul(gram, x, out=result)
