"""RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467): y = x * r * g with r = 1 / sqrt(mean(x^2) + eps)."""

import numpy as np

from dist_llm.model.params import ParamStore


class RMSNorm:
    """Scales each row to root mean square 1, then each column by a learned gain ``{name}.weight`` of shape (D,)."""

    def __init__(self, store: ParamStore, name: str, dim: int, eps: float) -> None:
        self.gain = store.declare(f"{name}.weight", (dim,), init_std=None)
        self.eps = eps

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, tuple]:
        """Map (..., D) to (..., D)."""
        # vecdot(x, x) is the sum of squares of each row in one pass, without the (..., D) array of squares.
        mean_square = np.vecdot(x, x)[..., None] / x.shape[-1]  # (..., 1)
        r = 1 / np.sqrt(mean_square + x.dtype.type(self.eps))
        normed = x * r
        return normed * self.gain.data, (normed, r)

    def backward(self, dy: np.ndarray, cache: tuple) -> np.ndarray:
        """Map (..., D) back to (..., D)."""
        normed, r = cache
        # forward was y = normed * g, so now ...
        self.gain.grad += np.einsum("nd,nd->d", dy.reshape(-1, dy.shape[-1]), normed.reshape(-1, dy.shape[-1]))
        dnormed = dy * self.gain.data
        # ... and normed = x * r(x): r falls as x grows along itself, which takes away the part of dnormed along
        # normed: dx = r (dnormed - normed mean(dnormed * normed))
        along = np.vecdot(dnormed, normed)[..., None] / dy.shape[-1]  # (..., 1)
        dnormed -= normed * along
        dnormed *= r
        return dnormed
