"""The orthogonal matrix next to a matrix: U V^T, where U S V^T is its singular value decomposition.

    G = X X^T        U V^T = f(G) X        f(s^2) near 1 / s

A polynomial f of G multiplies each singular value s of X by f(s^2), and nothing else changes. Newton-Schulz iterations
build it of several polynomials of low degree, and compute X X^T anew for each. Here it is built of squares of the small
matrix G, each of which doubles the degree:

    Q0 = G        Q1 = G^2        Q(i+1) = (c I + b Q(i-1) + a Qi)^2        f = w I + sum of wi Qi

It is closer than three iterations of Polar Express (Amsel et al. 2025, arXiv 2505.16932), takes fewer products, and far
fewer where a matrix is not square. Small singular values are worth more here than closeness: with all from 0.4 to 1.6 a
model learns as well as with all at 1, but not without the small ones.

They must not begin above 1. The root of the Frobenius norm of G^2, which is needed anyway, is a bound of the square
of the largest one: (sum s^8)^(1/4) >= max s^2. It is far nearer to it than the Frobenius norm of X.
"""

import math

import numpy as np

# Found by linear programs, one after the other, each for the smallest error that a little change can give; for singular
# values from 0.003 to 1.
SQUARES = (  # c, b, a
    (1.0, -5.218786067, 4.223282874),
    (-0.705011854, 1.25014675, 1.705011854),
    (-0.375220677, -0.463477872, 1.838698548),
    (-0.084265485, -0.666547129, 1.750812614),
    (-0.006054806, -0.935708428, 1.941763234),
)
CONSTANT = 0.763572014  # w
WEIGHTS = (-0.96444342, -1.303325545, 0.630771475, 2.783440038, 1.155699317, 8.548729578, 115.762182883)
TINY = 1e-15  # of what is divided by: a matrix of zeros stays one
SMALLEST_BOUND = 1e-6


def orthogonalize(x: np.ndarray, out: np.ndarray) -> None:
    """Find the matrix with nearly the same singular vectors whose singular values are near 1.

    Parameters
    ----------
    x : ndarray of shape (rows, columns)
    out : ndarray of shape (rows, columns)
        Receives it: singular values from 0.38 to 1.62 where those of `x` are at least 0.003 of their bound; smaller
        ones, smaller. It must not overlap `x`.
    """
    # One matrix at a time stays in the cache with all that is computed of it: a stack of them takes a sixth longer.
    tall = x.shape[0] > x.shape[1]  # then G = X^T X, which is the smaller one, and U V^T = X f(G)
    n = min(x.shape)
    squares = np.empty((len(WEIGHTS), n, n), x.dtype)
    flat = squares.reshape(len(WEIGHTS), n * n)
    combination = np.empty((n, n), x.dtype)
    diagonal = combination.reshape(-1)[:: n + 1]

    gram, square = squares[:2]
    _ = np.matmul(x.T, x, out=gram) if tall else np.matmul(x, x.T, out=gram)
    # Divided by it, eighth powers are still numbers.
    norm = max(math.sqrt(np.vdot(x, x)), TINY)
    gram *= 1 / norm**2
    np.matmul(gram, gram.T, out=square)
    bound = max(math.sqrt(math.sqrt(np.vdot(square, square))), SMALLEST_BOUND)
    gram *= 1 / bound
    square *= 1 / bound**2

    for i, (c, b, a) in enumerate(SQUARES, 1):
        np.matmul(np.array((b, a), x.dtype), flat[i - 1 : i + 1], out=combination.reshape(-1))
        diagonal += c
        np.matmul(combination, combination.T, out=squares[i + 1])
    np.matmul(np.array(WEIGHTS, x.dtype), flat, out=combination.reshape(-1))
    diagonal += CONSTANT
    combination *= 1 / (norm * math.sqrt(bound))
    _ = np.matmul(x, combination, out=out) if tall else np.matmul(combination, x, out=out)


def cost(rows: int, columns: int) -> float:
    """Return what it takes, in multiplications."""
    m, n = sorted((rows, columns))
    return 2.0 * m * m * n + len(WEIGHTS) * m**3
