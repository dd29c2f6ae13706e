"""`model.attention`, compiled."""

import numpy as np

from dist_llm.fast.causal_attention import QUERIES, attention, attention_backward, kept_rows
from dist_llm.fast.linear import Linear
from dist_llm.fast.packing import words_of
from dist_llm.fast.threads import share_out
from dist_llm.model import attention as plain
from dist_llm.model.causal_attention import SAFE_SCORE
from dist_llm.model.layer import Cache

KEPT_KEYS = 512  # up to so many positions, exponentials are kept for the backward pass


class Attention(plain.Attention):
    """The same, a head at a time."""

    linear = Linear

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """Map (B, T, D) to (B, T, D)."""
        B, T, D = x.shape
        qkv, qkv_cache = self.qkv_proj.forward(x)
        o, sums = np.empty((B, T, D), x.dtype), np.empty((B, self.n_heads, T), x.dtype)
        kind = self.linear.kind
        row = words_of(QUERIES, kind)
        kept = np.empty((B, self.n_heads, kept_rows(T), row) if T <= KEPT_KEYS else (0, 0, 0, 0), kind.dtype)
        arrays = qkv.ravel(), *self._rotation(T), o, sums, kept
        share_out(B * self.n_kv_heads, lambda kv: attention(*arrays, kv.start, kv.stop))
        y, o_cache = self.o_proj.forward(o)
        return y, (qkv_cache, (qkv, o, sums, kept), o_cache)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """Map (B, T, D) back to (B, T, D)."""
        qkv_cache, (qkv, o, sums, kept), o_cache = cache
        B, T, _ = dy.shape
        do = self.o_proj.backward(dy, o_cache)
        dqkv = np.empty_like(qkv)
        arrays = do, o, sums, kept, qkv.ravel(), *self._rotation(T), dqkv.ravel()
        share_out(B * self.n_kv_heads, lambda kv: attention_backward(*arrays, kv.start, kv.stop))
        return self.qkv_proj.backward(dqkv, qkv_cache)

    def _rotation(self, T: int) -> tuple[np.ndarray, np.float32, int, int, np.float32]:
        turns = self.freqs_cis[:T].view(np.float32)
        return turns, np.float32(self.head_dim**-0.5), self.n_heads, self.n_kv_heads, np.float32(SAFE_SCORE)
