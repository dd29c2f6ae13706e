"""Linear map without bias, y = x W^T, with W stored (out, in) as in every published Llama."""

import numpy as np

from dist_llm.model.params import Param


class Linear:
    """y = x W^T.

    Parameters
    ----------
    weight : Param of shape (out_dim, in_dim)
    """

    def __init__(self, weight: Param) -> None:
        self.weight = weight

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map (..., in_dim) to (..., out_dim)."""
        rows = x.reshape(-1, x.shape[-1])
        # One product over all rows: NumPy would make a separate, smaller one for each leading index. For a single row,
        # as in generation, vecdot is faster than BLAS.
        y = rows @ self.weight.data.T if len(rows) != 1 else np.vecdot(self.weight.data, rows)
        return y.reshape(*x.shape[:-1], -1), x

    def backward(self, dy: np.ndarray, cache: np.ndarray) -> np.ndarray:
        """Map (..., out_dim) back to (..., in_dim)."""
        x = cache
        rows, drows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        # forward was y = x W^T, so now dW = dy^T x and dx = dy W
        self.weight.grad += drows.T @ rows
        return (drows @ self.weight.data).reshape(x.shape)
