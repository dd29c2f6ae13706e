"""Output projection, softmax and cross-entropy in one, a chunk of rows at a time.

The (N, V) logits are by far the largest activation of a small model with a large vocabulary (1,024 tokens x 32k words
are 131 MB). Only a chunk of them exists at any time: the forward pass turns a chunk into its own gradient in place,
and keeps it if it is the only one; otherwise the backward pass computes each chunk again.
"""

import numpy as np

from dist_llm.model.functional import softmax_cross_entropy_
from dist_llm.model.layer import Cache
from dist_llm.model.params import Param

# Elements in a chunk, 134 MB in float32. What is in one chunk is computed once: with 32k words two sequences of 256
# tokens, or one of 1,024. In chunks of a quarter, each of them twice, these took 1.5 times as long. And each chunk adds
# to the whole (V, D) gradient of the weight, which must be worth its while: 32 rows of 32k logits are not.
CHUNK_LOGITS = 1 << 25
GRAD_ROWS = 2048  # of the gradient of the weight that are computed together: all would take as much memory as it has


class LossHead:
    """loss = sum over rows with a target of cross_entropy(softmax(h W^T), target).

    A target of -1 is none: its row is left out of all products, and gets a gradient of zero.

    Parameters
    ----------
    weight : Param of shape (V, D)
        The output projection; the embedding itself when the two are tied.
    """

    def __init__(self, weight: Param) -> None:
        self.weight = weight

    def forward(self, h: np.ndarray, targets: np.ndarray) -> tuple[float, Cache]:
        """Return the summed loss in nats.

        Parameters
        ----------
        h : ndarray of shape (B, T, D)
        targets : ndarray of int, shape (B, T)
        """
        rows, row_targets, _ = _counted(h, targets)
        chunks = self._chunks(rows)
        buffer = self._room_for(chunks, h.dtype)
        loss = 0.0
        for chunk in chunks:
            loss += self._forward_chunk(rows[chunk], row_targets[chunk], buffer[: len(rows[chunk])])
        return loss, (h, targets, buffer if len(chunks) == 1 else None)

    def backward(self, dloss: float, cache: Cache) -> np.ndarray:
        """Return dh of shape (B, T, D)."""
        h, targets, kept = cache
        rows, row_targets, counted = _counted(h, targets)
        chunks = self._chunks(rows)
        buffer = self._room_for(chunks, h.dtype) if kept is None else kept
        dh = np.empty_like(rows)
        scale = h.dtype.type(dloss)
        for chunk in chunks:
            dlogits = buffer[: len(rows[chunk])]
            if kept is None:
                self._forward_chunk(rows[chunk], row_targets[chunk], dlogits)
            # dloss is put on h and on dh, which are smaller than dlogits and dW
            self._backward_chunk(scale * rows[chunk], dlogits, dh[chunk])
        dh *= scale
        if counted is None:
            return dh.reshape(h.shape)
        dh_all = np.zeros_like(h)
        dh_all[counted] = dh
        return dh_all

    def _forward_chunk(self, rows: np.ndarray, targets: np.ndarray, logits: np.ndarray) -> float:
        """Turn `logits` into the gradient of the logits, and return the loss."""
        np.matmul(rows, self.weight.data.T, out=logits)
        return softmax_cross_entropy_(logits, targets)

    def _backward_chunk(self, rows: np.ndarray, dlogits: np.ndarray, dh: np.ndarray) -> None:
        """Add to the gradient of the weight, and fill `dh`."""
        # forward was logits = h W^T, so now dW = dlogits^T h and dh = dlogits W
        for start in range(0, len(self.weight.grad), GRAD_ROWS):
            part = slice(start, start + GRAD_ROWS)
            self.weight.grad[part] += dlogits[:, part].T @ rows
        np.matmul(dlogits, self.weight.data, out=dh)

    def _chunks(self, rows: np.ndarray) -> list[slice]:
        """Cut the rows into chunks; the first is as large as any."""
        size = max(1, min(len(rows), CHUNK_LOGITS // self.weight.shape[0]))
        return [slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]

    def _room_for(self, chunks: list[slice], dtype: np.dtype) -> np.ndarray:
        """Make room for the logits of a chunk."""
        return np.empty((chunks[0].stop if chunks else 0, self.weight.shape[0]), dtype)


def _counted(h: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the rows of h (N, D) that have a target, the targets (N,), and where they are; None: everywhere."""
    if targets.min(initial=0) >= 0:
        return h.reshape(-1, h.shape[-1]), targets.ravel(), None
    counted = targets >= 0
    return h[counted], targets[counted], counted
