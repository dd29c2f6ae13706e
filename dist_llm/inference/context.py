"""What a model has read: the tokens of a batch of equally long texts, and the KV cache of those it has computed."""

import numpy as np

from dist_llm.inference.kv_cache import new_kv_cache
from dist_llm.model.llama import Llama


class Context:
    """The context of a generation, which slides when it is full.

    The older half is then forgotten and the newer half computed afresh, at new positions. Otherwise each token is
    computed once, however long ago it was read: a conversation goes on where it stopped.

    Parameters
    ----------
    model : Llama
    batch_size : int
        Texts side by side.

    Attributes
    ----------
    forgotten : int
        Tokens of each text that have slid out.
    """

    def __init__(self, model: Llama, batch_size: int = 1) -> None:
        self.model, self.batch_size = model, batch_size
        self.forgotten = 0
        self._tokens = np.empty((batch_size, 0), np.int32)
        self._cache, self._cached = new_kv_cache(model, batch_size), 0

    def __len__(self) -> int:
        """Return how many tokens each text has."""
        return self._tokens.shape[1]

    def append(self, tokens: np.ndarray) -> None:
        """Add t tokens to each text, int (B, t); or the same to all of them, int (t,)."""
        new = np.broadcast_to(tokens, (self.batch_size, np.shape(tokens)[-1]))
        self._tokens = np.concatenate([self._tokens, new], axis=1)

    def logits(self) -> np.ndarray:
        """Return the logits (B, V) of the token that comes next; there must be a new token since the last call."""
        max_seq_len, new = self.model.config.max_seq_len, len(self) - self._cached
        if len(self) > max_seq_len:
            kept = max(max_seq_len // 2, min(max_seq_len, new))  # as much as fits of a prompt that is longer than half
            self.forgotten += len(self) - kept
            self._tokens = self._tokens[:, -kept:]
            self._cache, self._cached = new_kv_cache(self.model, self.batch_size), 0
        logits = self.model.decode(self._tokens[:, self._cached :], self._cached, self._cache)
        self._cached = len(self)
        return logits
