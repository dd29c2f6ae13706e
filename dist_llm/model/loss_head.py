"""Output projection, softmax and cross-entropy in one, a chunk of rows at a time.

The (N, V) logits are by far the largest activation of a small model with a large vocabulary (256 tokens x 32k words
are 32 MB). Only a chunk of them exists at any time: the forward pass turns a chunk into its own gradient in place,
and keeps it if it is the only one; otherwise the backward pass computes each chunk again.
"""

import numpy as np

from dist_llm.model.functional import softmax_cross_entropy_
from dist_llm.model.params import Param

CHUNK_LOGITS = 1 << 20  # elements in a chunk: 4 MB in float32


class LossHead:
    """loss = sum over rows of cross_entropy(softmax(h W^T), target).

    Parameters
    ----------
    weight : Param of shape (V, D)
        The output projection; the embedding itself when the two are tied.
    """

    def __init__(self, weight: Param) -> None:
        self.weight = weight

    def forward(self, h: np.ndarray, targets: np.ndarray) -> tuple[float, tuple]:
        """Return the summed loss in nats.

        Parameters
        ----------
        h : ndarray of shape (B, T, D)
        targets : ndarray of int, shape (B, T)
        """
        rows, row_targets = h.reshape(-1, h.shape[-1]), targets.ravel()
        chunks = self._chunks(len(rows))
        loss = 0.0
        for chunk in chunks:
            logits = rows[chunk] @ self.weight.data.T  # (chunk, V)
            loss += softmax_cross_entropy_(logits, row_targets[chunk])
        return loss, (h, targets, logits if len(chunks) == 1 else None)

    def backward(self, dloss: float, cache: tuple) -> np.ndarray:
        """Return dh of shape (B, T, D)."""
        h, targets, dlogits = cache
        rows, row_targets = h.reshape(-1, h.shape[-1]), targets.ravel()
        dh = np.empty_like(rows)
        scale = h.dtype.type(dloss)
        for chunk in self._chunks(len(rows)):
            d = dlogits
            if d is None:
                d = rows[chunk] @ self.weight.data.T
                softmax_cross_entropy_(d, row_targets[chunk])
            # forward was logits = h W^T, so now dW = dlogits^T h and dh = dlogits W; the scale of the loss is put on
            # these products, which are smaller than the logits
            self.weight.grad += scale * (d.T @ rows[chunk])
            np.matmul(d, self.weight.data, out=dh[chunk])
        dh *= scale
        return dh.reshape(h.shape)

    def _chunks(self, n_rows: int) -> list[slice]:
        size = max(1, CHUNK_LOGITS // self.weight.shape[0])
        return [slice(start, start + size) for start in range(0, n_rows, size)]
