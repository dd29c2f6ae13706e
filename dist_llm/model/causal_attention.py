"""o = softmax(mask(q k^T)) v and its gradients, in tiles of scores that stay in the processor's cache.

What makes it fast, with nothing left out:

- Queries come in blocks, and a block meets only the keys it may see: about half of the full square is never computed.
- A tile of scores is kept transposed, (keys, queries): the column sums and differences of a softmax then run over whole
  rows, which is vector work.
- The exponentials e are never divided by their sum s; dividing the (T, Dh) output and the incoming gradient by s
  instead touches T / Dh times fewer numbers.
- What is to be summed over keys, or subtracted from every key's row, rides along in a matrix product as one more
  column: e^T [v 1] is the output and s in one, and [v 1] [do -a]^T is v do^T - a.
- The usual subtraction of each query's largest score keeps exp from overflowing. By Cauchy and Schwarz no score is
  larger than |q| |k|: where that is small for all, there is nothing to keep from, and two passes over the tile are
  saved.
- The tiles are kept for the backward pass; those of a long sequence would fill the memory, and are computed again, as
  in FlashAttention (Dao et al. 2022, arXiv 2205.14135). Kept or not, they are the same numbers.
- OpenBLAS multiplies small matrices in a faster way: where the products of half a block of queries are small enough,
  and those of a whole one are not, queries come in half blocks.
"""

import functools
from itertools import pairwise

import numpy as np

from dist_llm.model.layer import Cache

QUERY_BLOCK = 64  # queries in a tile: measured best of 32, 64, 128 and 256 at T = 256
SMALL_PRODUCT = 10**6  # multiplications in what OpenBLAS takes for a product of small matrices
TILE_SIZE = 1 << 18  # scores in a tile, 1 MB: the heads that fit into it are computed together
KEPT_BYTES = 1 << 28  # tiles that take at most so much are kept: in float32 up to 4,096 positions of 8 heads
# exp(40) is 2e17, exp(-40) 4e-18: their sums and products are far from the ends of float32, 3e38 and 1e-38.
SAFE_SCORE = 40.0


def causal_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, Cache]:
    """Attend each position to itself and those before it.

    Parameters
    ----------
    q : ndarray of shape (B, K, G, T, Dh)
        Already scaled by 1 / sqrt(Dh); its G heads share a key and value head.
    k, v : ndarray of shape (B, K, 1, T, Dh)

    Returns
    -------
    o : ndarray of shape (B, K, G, T, Dh)
        In memory it is (B, T, K, G, Dh), as the next projection wants it.
    cache : tuple
    """
    B, K, G, T, Dh = q.shape
    v1 = _with_column(v, 1)
    o = np.empty((B, T, K, G, Dh), q.dtype).transpose(0, 2, 3, 1, 4)
    sums = np.empty((B, K, G, T, 1), q.dtype)
    safe = bool(_longest(q) * _longest(k) < SAFE_SCORE)
    kept: list[np.ndarray] | None = [] if kept_bytes(B * K * G, T, q.itemsize) else None
    for b, h, queries, keys in _tiles(q.shape):
        e = _exponentials(q[b, h, :, queries], k[b, h, :, keys], safe)  # (b, h, G, keys, queries)
        o1 = e.swapaxes(-1, -2) @ v1[b, h, :, keys]  # (b, h, G, queries, Dh + 1)
        sums[b, h, :, queries] = o1[..., Dh:]
        np.divide(o1[..., :Dh], o1[..., Dh:], out=o[b, h, :, queries])
        if kept is not None:
            kept.append(e)
    return o, (q, k, v1, o, sums, safe, kept)


def causal_attention_backward(do: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (dq, dk, dv) of `causal_attention`, in the shapes of q, k and v."""
    q, k, v1, o, sums, safe, kept = cache
    T, Dh = q.shape[-2:]
    dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(k)
    # forward was o = (e / s) v, so every use of do below wants it divided by s. The softmax p = e / s has
    # dscore = p (dp - sum(p dp)), and that sum over keys is the sum of do o over Dh.
    do1 = _with_column(do, -np.vecdot(do, o)[..., None])
    do1 /= sums
    for i, (b, h, queries, keys) in reversed(list(enumerate(_tiles(q.shape)))):
        e = _exponentials(q[b, h, :, queries], k[b, h, :, keys], safe) if kept is None else kept[i]
        dv_part = _sum_group(e @ do1[b, h, :, queries, :Dh])
        dscores = v1[b, h, :, keys] @ _transposed(do1[b, h, :, queries])  # (b, h, G, keys, queries)
        dscores *= e
        # forward was scores = k q^T, so now ...
        np.matmul(dscores.swapaxes(-1, -2), k[b, h, :, keys], out=dq[b, h, :, queries])
        dk_part = _sum_group(dscores @ q[b, h, :, queries])
        if queries.stop == T:  # the last queries come first and see all keys; the others add to what they gave
            dk[b, h], dv[b, h] = dk_part, dv_part
        else:
            dk[b, h, :, keys] += dk_part
            dv[b, h, :, keys] += dv_part
    return dq, dk, dv


def kept_bytes(heads: int, T: int, itemsize: int) -> int:
    """Return how many bytes of tiles are kept for the backward pass, not counting their corners beyond the diagonal."""
    size = heads * T * T // 2 * itemsize
    return size if size <= KEPT_BYTES else 0


def _tiles(shape: tuple[int, ...]) -> list[tuple[slice, slice, slice, slice]]:
    """Cut (B, K, G, T, Dh) into tiles: slices of sequences, heads, queries, and of the keys that these may see."""
    B, K, G, T, Dh = shape
    heads = TILE_SIZE // (G * T * QUERY_BLOCK)
    if heads >= B * K:
        parts = [(slice(B), slice(K))]
    else:
        parts = [(slice(b, b + 1), slice(h, h + max(1, heads))) for b in range(B) for h in range(0, K, max(1, heads))]
    return [(*part, slice(start, stop), slice(stop)) for part in parts for start, stop in pairwise(_blocks(T, Dh))]


def _blocks(T: int, Dh: int) -> list[int]:
    """Return where blocks of queries begin, and at last where they end."""
    bounds, half = [0], QUERY_BLOCK // 2
    while (start := bounds[-1]) < T:
        whole_is_small = QUERY_BLOCK * (start + QUERY_BLOCK) * Dh <= SMALL_PRODUCT
        half_is_small = half * (start + half) * Dh <= SMALL_PRODUCT
        bounds.append(min(start + (half if half_is_small and not whole_is_small else QUERY_BLOCK), T))
    return bounds


def _exponentials(q: np.ndarray, k: np.ndarray, safe: bool) -> np.ndarray:
    """Return the exponentials of the scores of a block, (b, h, G, keys, queries), up to a factor for each query."""
    scores = k @ _transposed(q)
    # Within the last, square part of the tile a key may lie behind the query: those get exp(-inf) = 0.
    n = q.shape[-2]
    scores[..., -n:, :] += _mask(n, scores.dtype)
    if not safe:
        scores -= scores.max(axis=-2, keepdims=True)
    return np.exp(scores, out=scores)


@functools.cache
def _mask(n: int, dtype: np.dtype) -> np.ndarray:
    """Return (keys, queries) with minus infinity where the key lies behind the query, and 0 elsewhere."""
    return np.tril(np.full((n, n), -np.inf, dtype), k=-1)


def _longest(x: np.ndarray) -> float:
    """Return the largest Euclidean norm of the vectors along the last axis."""
    return float(np.sqrt(np.vecdot(x, x).max()))


def _with_column(x: np.ndarray, column: np.ndarray | float) -> np.ndarray:
    """Return a contiguous (..., Dh + 1) copy of (..., Dh) and one more column."""
    y = np.empty((*x.shape[:-1], x.shape[-1] + 1), x.dtype)
    y[..., :-1] = x
    y[..., -1:] = column
    return y


def _transposed(x: np.ndarray) -> np.ndarray:
    """Return a copy with the last two axes exchanged: with so few columns, BLAS is a quarter faster than on a view."""
    return np.ascontiguousarray(x.swapaxes(-1, -2))


def _sum_group(x: np.ndarray) -> np.ndarray:
    """(b, h, G, t, Dh) -> (b, h, 1, t, Dh): what the G query heads give to the key or value head they share."""
    return x if x.shape[2] == 1 else x.sum(axis=2, keepdims=True)
