"""RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467): y = x * r * g with r = 1 / sqrt(mean(x^2) + eps)."""

import numpy as np

from dist_llm.model.layer import Cache
from dist_llm.model.params import ParamStore


class RMSNorm:
    """Scales each row to root mean square 1, then each column by a learned gain ``{name}.weight`` of shape (D,)."""

    def __init__(self, store: ParamStore, name: str, dim: int, eps: float) -> None:
        self.gain = store.declare(f"{name}.weight", (dim,), "gain", init_std=None)
        self.eps = eps

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """Map (..., D) to (..., D)."""
        # vecdot(x, x) is the sum of squares of each row in one pass, without the (..., D) array of squares.
        mean_square = np.vecdot(x, x)[..., None] / x.shape[-1]  # (..., 1)
        r = 1 / np.sqrt(mean_square + x.dtype.type(self.eps))
        y = x * r
        y *= self.gain.data
        return y, (x, r)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """Map (..., D) back to (..., D)."""
        x, r = cache
        rows = (-1, x.shape[-1])
        # forward was y = x * r * g, so now dg = sum over rows of dy x r ...
        dyx = dy * x
        self.gain.grad += r.ravel() @ dyx.reshape(rows)
        # ... and with r(x), which falls as x grows along itself, dx = r (dy g - x r^2 mean(dy g x))
        along = (dyx @ self.gain.data)[..., None] * (r * r / x.shape[-1])  # (..., 1)
        dx = dy * self.gain.data
        dx -= np.multiply(x, along, out=dyx)
        dx *= r
        return dx
