"""Keys and values of the positions a generation has been through, so that each new token costs one position only."""

import numpy as np

from dist_llm.model.llama import Llama


class LayerKVCache:
    """The cache of one layer: arrays of (B, K, max_seq_len, Dh), filled from the front."""

    def __init__(self, shape: tuple[int, int, int, int], dtype: np.typing.DTypeLike) -> None:
        self._k, self._v = np.empty(shape, dtype), np.empty(shape, dtype)
        self._length = 0

    def append(self, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add (B, K, t, Dh) keys and values, and return views of all so far, (B, K, T, Dh) each."""
        start, self._length = self._length, self._length + k.shape[2]
        self._k[:, :, start : self._length] = k
        self._v[:, :, start : self._length] = v
        return self._k[:, :, : self._length], self._v[:, :, : self._length]


def new_kv_cache(model: Llama, batch_size: int = 1) -> list[LayerKVCache]:
    """Return an empty cache for each layer of `model`, long enough for its whole context."""
    c = model.config
    shape = (batch_size, c.n_kv_heads or c.n_heads, c.max_seq_len, c.dim // c.n_heads)
    return [LayerKVCache(shape, model.params.data.dtype) for _ in range(c.n_layers)]
