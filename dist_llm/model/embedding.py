"""Token embedding: row t of the table for token t."""

import numpy as np

from dist_llm.model.params import ParamStore


class Embedding:
    """y = W[tokens], with ``{name}.weight`` of shape (V, D)."""

    def __init__(self, store: ParamStore, name: str, vocab_size: int, dim: int, init_std: float) -> None:
        self.weight = store.declare(f"{name}.weight", (vocab_size, dim), "embedding", init_std)

    def forward(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map int (B, T) to (B, T, D)."""
        return self.weight.data[tokens], tokens

    def backward(self, dy: np.ndarray, cache: np.ndarray) -> None:
        """Add (B, T, D) to the rows of the table; tokens have no gradient."""
        # forward was y[n] = W[tokens[n]], so now each dW[t] gathers the dy of every place where t stood. Sorted by
        # token, those places are runs, and reduceat sums each run as whole rows: several times faster than np.add.at.
        tokens, rows = cache.ravel(), dy.reshape(-1, dy.shape[-1])
        order = np.argsort(tokens, kind="stable")
        present, starts = np.unique(tokens[order], return_index=True)
        self.weight.grad[present] += np.add.reduceat(rows[order], starts, axis=0)
