"""Causal multi-head self-attention with grouped queries: o = softmax(mask(q k^T / sqrt(Dh))) v for each head.

Vaswani et al. 2017 (arXiv 1706.03762); grouped queries after Ainslie et al. 2023 (arXiv 2305.13245): G = H / K query
heads share one key and value head, and K = H is the usual attention. No dropout on the probabilities.

How the arrays are laid out for speed:

- Queries come in blocks, and a block meets only the keys it may see: about half of the full square is never computed.
- A tile of scores is kept transposed, (keys, queries). The softmax's maximum, subtraction and sum then run down the
  leading axis, whole rows of queries at a time, which is vector work; along the last axis they are 3-4 times slower.
- The exponentials e are never divided by their sum s; dividing the (T, Dh) output and the incoming gradient by s
  instead touches T / Dh times fewer numbers.
"""

from typing import Protocol

import numpy as np

from dist_llm.model.linear import Linear
from dist_llm.model.params import ParamStore
from dist_llm.model.rope import rotate, rotate_backward

QUERY_BLOCK = 64  # queries in a tile: measured best of 32, 64, 128 and 256 at T = 256


class KeysAndValues(Protocol):
    """What `Attention.decode` needs of a cache: the keys and values of the positions so far."""

    def append(self, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add (B, K, t, Dh) keys and values, and return all so far, (B, K, T, Dh) each."""
        ...


class Attention:
    """Self-attention with its four projections.

    Parameters
    ----------
    turns : complex ndarray of shape (max_seq_len, Dh / 2)
        Of `rope.rotations`.
    out_std : float
        Initial standard deviation of o_proj, which writes into the residual stream.
    """

    def __init__(
        self,
        store: ParamStore,
        name: str,
        dim: int,
        n_heads: int,
        n_kv_heads: int,
        turns: np.ndarray,
        init_std: float,
        out_std: float,
    ) -> None:
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads, dim // n_heads
        kv_dim = n_kv_heads * self.head_dim
        # Three matrices by name, but side by side in memory: one product makes queries, keys and values.
        rows = {"q_proj": dim, "k_proj": kv_dim, "v_proj": kv_dim}
        parts = [store.declare(f"{name}.{part}.weight", (n, dim), init_std) for part, n in rows.items()]
        self.qkv_proj = Linear(store.join(parts))
        self.columns = [dim, dim + kv_dim]  # where keys and where values begin
        self.o_proj = Linear(store.declare(f"{name}.o_proj.weight", (dim, dim), out_std))
        self.turns = turns
        # The scores' factor 1 / sqrt(Dh) rides along in the rotation of the queries.
        self.scaled_turns = (turns * self.head_dim**-0.5).astype(turns.dtype)

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, tuple]:
        """Map (B, T, D) to (B, T, D)."""
        B, T, D = x.shape
        qkv, qkv_cache = self.qkv_proj.forward(x)
        q, k, v = self._split(qkv)  # (B, T, H, Dh), (B, T, K, Dh), (B, T, K, Dh)
        q = rotate(q, self.scaled_turns[:T])  # (B, H, T, Dh)
        k = rotate(k, self.turns[:T])  # (B, K, T, Dh)
        v = np.ascontiguousarray(v.swapaxes(1, 2))  # (B, K, T, Dh)
        o, scores_cache = causal_attention(self._group(q), k[:, :, None], v[:, :, None])  # (B, K, G, T, Dh)
        o = o.reshape(B, self.n_heads, T, -1).swapaxes(1, 2).reshape(B, T, D)
        y, o_cache = self.o_proj.forward(o)
        return y, (qkv_cache, scores_cache, o_cache)

    def backward(self, dy: np.ndarray, cache: tuple) -> np.ndarray:
        """Map (B, T, D) back to (B, T, D)."""
        qkv_cache, scores_cache, o_cache = cache
        B, T, _ = dy.shape
        do = self.o_proj.backward(dy, o_cache)
        do = np.ascontiguousarray(do.reshape(B, T, self.n_heads, -1).swapaxes(1, 2))  # (B, H, T, Dh)
        dq, dk, dv = causal_attention_backward(self._group(do), scores_cache)
        dqkv = np.empty((B, T, self.qkv_proj.weight.shape[0]), dy.dtype)
        q_part, k_part, v_part = self._split(dqkv)  # views, to be filled
        rotate_backward(dq.reshape(B, self.n_heads, T, -1), self.scaled_turns[:T], out=q_part)
        rotate_backward(dk[:, :, 0], self.turns[:T], out=k_part)
        v_part[...] = dv[:, :, 0].swapaxes(1, 2)
        return self.qkv_proj.backward(dqkv, qkv_cache)

    def decode(self, x: np.ndarray, start: int, kv_cache: KeysAndValues) -> np.ndarray:
        """Attend from t new positions to all so far, whose keys and values are cached: (B, t, D) to (B, t, D)."""
        B, t, D = x.shape
        q, k, v = self._split(self.qkv_proj.forward(x)[0])
        q = rotate(q, self.scaled_turns[start : start + t])
        k = rotate(k, self.turns[start : start + t])
        k, v = kv_cache.append(k, v.swapaxes(1, 2))  # (B, K, start + t, Dh)
        scores = self._group(q) @ k[:, :, None].swapaxes(-1, -2)  # (B, K, G, t, start + t)
        if t > 1:
            scores += np.triu(np.full(scores.shape[-2:], -np.inf, x.dtype), k=start + 1)
        np.exp(scores - scores.max(axis=-1, keepdims=True), out=scores)
        o = scores @ v[:, :, None]
        o /= scores.sum(axis=-1, keepdims=True)
        o = o.reshape(B, self.n_heads, t, -1).swapaxes(1, 2).reshape(B, t, D)
        return self.o_proj.forward(o)[0]

    def _split(self, qkv: np.ndarray) -> list[np.ndarray]:
        """(B, T, (H + 2 K) * Dh) -> views of (B, T, H, Dh), (B, T, K, Dh) and (B, T, K, Dh)."""
        parts = np.split(qkv, self.columns, axis=-1)
        return [part.reshape(*part.shape[:2], -1, self.head_dim) for part in parts]

    def _group(self, x: np.ndarray) -> np.ndarray:
        """(B, H, T, Dh) -> (B, K, G, T, Dh)."""
        B, _, T, Dh = x.shape
        return x.reshape(B, self.n_kv_heads, -1, T, Dh)


def causal_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, tuple]:
    """Attend each position to itself and those before it.

    Parameters
    ----------
    q : ndarray of shape (B, K, G, T, Dh)
        Already scaled by 1 / sqrt(Dh).
    k, v : ndarray of shape (B, K, 1, T, Dh)

    Returns
    -------
    o : ndarray of shape (B, K, G, T, Dh)
    cache : tuple
    """
    T = q.shape[-2]
    o = np.empty_like(q)
    sums = np.empty((*q.shape[:-1], 1), q.dtype)
    tiles = []
    for start in range(0, T, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, T)
        tile = k[..., :stop, :] @ transposed(q[..., start:stop, :])  # (B, K, G, keys = stop, queries)
        # Within the last, square part of the tile a key may lie behind the query: those get exp(-inf) = 0.
        n = stop - start
        tile[..., start:, :] += np.tril(np.full((n, n), -np.inf, q.dtype), k=-1)
        tile -= tile.max(axis=-2, keepdims=True)
        np.exp(tile, out=tile)
        block_sums = tile.sum(axis=-2)[..., None]  # (B, K, G, queries, 1)
        np.matmul(tile.swapaxes(-1, -2), v[..., :stop, :], out=o[..., start:stop, :])
        o[..., start:stop, :] /= block_sums
        sums[..., start:stop, :] = block_sums
        tiles.append(tile)
    return o, (q, k, v, o, sums, tiles)


def causal_attention_backward(do: np.ndarray, cache: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (dq, dk, dv) of `causal_attention`, in the shapes of q, k and v."""
    q, k, v, o, sums, tiles = cache
    dq = np.empty_like(q)
    dk, dv = np.zeros_like(k), np.zeros_like(v)
    # forward was o = (e / s) v; every use of do below wants it divided by s
    do = do / sums
    along = np.vecdot(do, o)  # (B, K, G, T)
    for start, tile in zip(range(0, q.shape[-2], QUERY_BLOCK), tiles, strict=True):
        stop = min(start + QUERY_BLOCK, q.shape[-2])
        block = do[..., start:stop, :]
        dv[..., :stop, :] += _sum_group(tile @ block)  # the G query heads share one v
        # The softmax p = e / s has dscore = p (dp - sum(p dp)), and sum(p dp) over keys is sum(do o) over Dh.
        dtile = v[..., :stop, :] @ transposed(block)
        dtile -= along[..., None, start:stop]
        dtile *= tile
        # forward was tile = k q^T, so now ...
        np.matmul(dtile.swapaxes(-1, -2), k[..., :stop, :], out=dq[..., start:stop, :])
        dk[..., :stop, :] += _sum_group(dtile @ q[..., start:stop, :])
    return dq, dk, dv


def transposed(x: np.ndarray) -> np.ndarray:
    """Return a copy with the last two axes exchanged: with so few columns, BLAS is a quarter faster than on a view."""
    return np.ascontiguousarray(x.swapaxes(-1, -2))


def _sum_group(x: np.ndarray) -> np.ndarray:
    """(B, K, G, T, Dh) -> (B, K, 1, T, Dh)."""
    return x if x.shape[2] == 1 else x.sum(axis=2, keepdims=True)
