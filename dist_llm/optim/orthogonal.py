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

import numpy as np

# Optimal for singular values from 0.003 to 1.
COEFFICIENTS = (
    (8.3836736129, -24.7659058580, 18.3570818929),
    (4.0434204337, -3.0114049938, 0.5695121503),
    (3.5055706172, -2.6266538356, 0.5257194048),
)
SMALLEST = {"norm": 1e-30, "bound": 1e-6}  # of what is divided by: a matrix of zeros stays one


def orthogonalize(x: np.ndarray) -> np.ndarray:
    """Return, for each matrix of a stack, one with nearly the same singular vectors whose singular values are near 1.

    Parameters
    ----------
    x : ndarray of shape (N, rows, columns)
        What becomes of a matrix does not depend on the others, not in a bit.

    Returns
    -------
    ndarray of shape (N, rows, columns)
        Singular values from 0.35 to 1.65 where those of `x` are at least 0.003 of their bound; smaller ones, smaller.
    """
    tall = x.shape[1] > x.shape[2]  # then A = X^T X, X = X (a I + ...), so that A is the smaller one
    # In this range eighth powers are still numbers.
    x = x / np.maximum(np.linalg.norm(x, axis=(1, 2), keepdims=True), SMALLEST["norm"])
    diagonal = np.arange(min(x.shape[1:]))
    bound = None
    for a, b, c in COEFFICIENTS:
        # A matrix times its own transpose: NumPy computes one half, and copies it into the other.
        gram = x.swapaxes(1, 2) @ x if tall else x @ x.swapaxes(1, 2)
        square = gram @ gram.swapaxes(1, 2)
        if bound is None:
            bound = np.maximum(np.sqrt(np.linalg.norm(square, axis=(1, 2), keepdims=True)), SMALLEST["bound"])
            a, b, c = (coefficient / bound ** (power / 2) for coefficient, power in ((a, 1), (b, 3), (c, 5)))
            a = a[:, 0]
        gram *= b
        square *= c
        gram += square
        gram[:, diagonal, diagonal] += a
        x = x @ gram if tall else gram @ x
    return x
