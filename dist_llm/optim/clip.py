"""Clipping of the gradient by its global norm (Pascanu, Mikolov and Bengio 2013, arXiv 1211.5063)."""

import math

import numpy as np

CHUNK = 1 << 16  # elements summed in the array's own precision before the sum continues in double


def global_norm(grad: np.ndarray) -> float:
    """Return the Euclidean norm of a flat gradient of shape (P,)."""
    chunks = (grad[start : start + CHUNK] for start in range(0, grad.size, CHUNK))
    return math.sqrt(sum(float(np.dot(chunk, chunk)) for chunk in chunks))


def clip_(grad: np.ndarray, norm: float, max_norm: float) -> None:
    """Scale `grad` in place so that its norm is at most `max_norm`.

    Parameters
    ----------
    grad : ndarray of shape (P,)
    norm : float
        The norm it has.
    max_norm : float
        0 leaves the gradient alone.
    """
    if 0 < max_norm < norm:
        grad *= grad.dtype.type(max_norm / norm)
