"""Causal multi-head self-attention with grouped queries: o = softmax(mask(q k^T / sqrt(Dh))) v for each head.

Vaswani et al. 2017 (arXiv 1706.03762); grouped queries after Ainslie et al. 2023 (arXiv 2305.13245): G = H / K query
heads share one key and value head, and K = H is the usual attention. No dropout on the probabilities.
"""

import numpy as np

from dist_llm.model.causal_attention import causal_attention, causal_attention_backward
from dist_llm.model.layer import Cache
from dist_llm.model.linear import Linear
from dist_llm.model.params import ParamStore
from dist_llm.model.rope import apply_rotary_emb, apply_rotary_emb_backward


class Attention:
    """Self-attention with its four projections.

    Parameters
    ----------
    freqs_cis : complex ndarray of shape (max_seq_len, Dh / 2)
        Table of rotations, from `rope.precompute_freqs_cis`.
    out_std : float
        Initial standard deviation of o_proj, which writes into the residual stream.
    """

    linear = Linear

    def __init__(
        self,
        store: ParamStore,
        name: str,
        dim: int,
        n_heads: int,
        n_kv_heads: int,
        freqs_cis: np.ndarray,
        init_std: float,
        out_std: float,
    ) -> None:
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads, dim // n_heads
        kv_dim = n_kv_heads * self.head_dim
        # Three matrices by name, but side by side in memory: one product makes queries, keys and values.
        rows = {"q_proj": dim, "k_proj": kv_dim, "v_proj": kv_dim}
        parts = [store.declare(f"{name}.{part}.weight", (n, dim), "hidden", init_std) for part, n in rows.items()]
        self.qkv_proj = self.linear(store.join(parts))
        self.o_proj = self.linear(store.declare(f"{name}.o_proj.weight", (dim, dim), "hidden", out_std))
        self.freqs_cis = freqs_cis
        # The scores' factor 1 / sqrt(Dh) rides along in the rotation of the queries.
        self.scaled_freqs_cis = (freqs_cis * self.head_dim**-0.5).astype(freqs_cis.dtype)

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """Map (B, T, D) to (B, T, D)."""
        B, T, D = x.shape
        qkv, qkv_cache = self.qkv_proj.forward(x)
        q, k, v = self._split(qkv)  # (B, T, H, Dh), (B, T, K, Dh), (B, T, K, Dh)
        q = apply_rotary_emb(q, self.scaled_freqs_cis[:T])  # (B, H, T, Dh)
        k = apply_rotary_emb(k, self.freqs_cis[:T])  # (B, K, T, Dh)
        v = v.swapaxes(1, 2)  # (B, K, T, Dh)
        o, scores_cache = causal_attention(self._group(q), k[:, :, None], v[:, :, None])  # (B, K, G, T, Dh)
        y, o_cache = self.o_proj.forward(o.transpose(0, 3, 1, 2, 4).reshape(B, T, D))
        return y, (qkv_cache, scores_cache, o_cache)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """Map (B, T, D) back to (B, T, D)."""
        qkv_cache, scores_cache, o_cache = cache
        B, T, _ = dy.shape
        do = self.o_proj.backward(dy, o_cache)
        do = do.reshape(B, T, self.n_kv_heads, -1, self.head_dim).transpose(0, 2, 3, 1, 4)  # (B, K, G, T, Dh)
        dq, dk, dv = causal_attention_backward(do, scores_cache)
        dqkv = np.empty((B, T, self.qkv_proj.weight.shape[0]), dy.dtype)
        q_part, k_part, v_part = self._split(dqkv)  # views, to be filled
        apply_rotary_emb_backward(dq.reshape(B, self.n_heads, T, -1), self.scaled_freqs_cis[:T], out=q_part)
        apply_rotary_emb_backward(dk[:, :, 0], self.freqs_cis[:T], out=k_part)
        v_part[...] = dv[:, :, 0].swapaxes(1, 2)
        return self.qkv_proj.backward(dqkv, qkv_cache)

    def weights(self, x: np.ndarray) -> np.ndarray:
        """Return what `forward` weighs the values with, softmax(mask(q k^T / sqrt(Dh))): (B, T, D) to (B, H, T, T).

        Rows are queries, each adding up to 1. It is for those who look at them: no other method makes them as a whole.
        """
        T = x.shape[1]
        q, k, _ = self._split(self.qkv_proj.forward(x)[0])
        q = self._group(apply_rotary_emb(q, self.scaled_freqs_cis[:T]))  # (B, K, G, T, Dh)
        k = apply_rotary_emb(k, self.freqs_cis[:T])[:, :, None]  # (B, K, 1, T, Dh)
        scores = q @ k.swapaxes(-1, -2)  # (B, K, G, T, T)
        scores[..., ~np.tri(T, dtype=bool)] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        e = np.exp(scores, out=scores)
        e /= e.sum(axis=-1, keepdims=True)
        return e.reshape(len(x), self.n_heads, T, T)

    def decode(self, x: np.ndarray, start: int, kv_cache: np.ndarray) -> np.ndarray:
        """Attend from t new positions to all so far: (B, t, D) to (B, t, D).

        Parameters
        ----------
        start : int
            Positions whose keys and values are cached.
        kv_cache : ndarray of shape (2, B, K, max_seq_len, Dh)
            Keys and values, to which those of the new positions are added.
        """
        B, t, D = x.shape
        stop = start + t
        q, k, v = self._split(self.qkv_proj.forward(x)[0])
        keys, values = kv_cache[:, :, :, :stop]  # (B, K, stop, Dh)
        keys[:, :, start:] = apply_rotary_emb(k, self.freqs_cis[start:stop])
        values[:, :, start:] = v.swapaxes(1, 2)
        q = self._group(apply_rotary_emb(q, self.scaled_freqs_cis[start:stop]))  # (B, K, G, t, Dh)
        scores = q @ keys[:, :, None].swapaxes(-1, -2)  # (B, K, G, t, stop)
        if t > 1:
            scores += np.triu(np.full((t, stop), -np.inf, x.dtype), k=start + 1)
        scores -= scores.max(axis=-1, keepdims=True)
        e = np.exp(scores, out=scores)
        o = e @ values[:, :, None]
        o /= e.sum(axis=-1, keepdims=True)
        o = o.reshape(B, self.n_heads, t, -1).swapaxes(1, 2).reshape(B, t, D)
        return self.o_proj.forward(o)[0]

    def _split(self, qkv: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(B, T, (H + 2 K) * Dh) -> views of (B, T, H, Dh), (B, T, K, Dh) and (B, T, K, Dh)."""
        heads = qkv.reshape(*qkv.shape[:2], -1, self.head_dim)
        k, v = self.n_heads, self.n_heads + self.n_kv_heads  # where keys and where values begin
        return heads[:, :, :k], heads[:, :, k:v], heads[:, :, v:]

    def _group(self, x: np.ndarray) -> np.ndarray:
        """(B, H, T, Dh) -> (B, K, G, T, Dh)."""
        B, _, T, Dh = x.shape
        return x.reshape(B, self.n_kv_heads, -1, T, Dh)
