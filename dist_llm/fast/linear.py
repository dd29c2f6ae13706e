"""`model.linear`, with compiled products."""

import numpy as np

from dist_llm.fast.instructions import PAIRS
from dist_llm.fast.products import product
from dist_llm.model import linear

FEW_ROWS = 8  # for fewer, it does not pay to pack the weights


class Linear(linear.Linear):
    """The same, with float32 in and out.

    Attributes
    ----------
    kind : ndarray
        Of the words that are multiplied.
    """

    kind: np.ndarray = PAIRS

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map (..., in_dim) to (..., out_dim)."""
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) < FEW_ROWS:
            return super().forward(x)
        y = np.empty((len(rows), self.weight.shape[0]), x.dtype)
        product(rows, False, self.weight.data, True, y, False, self.kind)
        return y.reshape(*x.shape[:-1], -1), x

    def backward(self, dy: np.ndarray, cache: np.ndarray) -> np.ndarray:
        """Map (..., out_dim) back to (..., in_dim)."""
        x = cache
        rows, drows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        product(drows, True, rows, False, self.weight.grad, True, self.kind)
        dx = np.empty_like(rows)
        product(drows, False, self.weight.data, False, dx, False, self.kind)
        return dx.reshape(x.shape)
