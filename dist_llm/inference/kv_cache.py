"""Keys and values of the positions a generation has been through, so that each new token costs one position only."""

import numpy as np

from dist_llm.model.llama import Llama


def new_kv_cache(model: Llama, batch_size: int = 1) -> np.ndarray:
    """Return room for a context of keys and values, (n_layers, 2, B, K, max_seq_len, Dh), to fill from the front."""
    c = model.config
    shape = (c.n_layers, 2, batch_size, c.n_kv_heads or c.n_heads, c.max_seq_len, c.dim // c.n_heads)
    return np.empty(shape, model.params.data.dtype)
