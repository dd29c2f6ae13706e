"""The layers of `dist_llm.fast` in float64, written plainly: only what they multiply is rounded to bfloat16.

What they compute differs from this by the rounding of float32, and where that puts a number on the other side of the
middle between two bfloat16 numbers, by their distance.
"""

import ml_dtypes
import numpy as np

from dist_llm.fast.linear import FEW_ROWS
from dist_llm.model import attention, linear, loss_head, swiglu
from dist_llm.model.causal_attention import SAFE_SCORE
from dist_llm.model.functional import softmax_cross_entropy_
from dist_llm.model.layers import Layers


def rounded(x: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 numbers of the nearest float32 numbers, in float64."""
    return x.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return rounded(a) @ rounded(b)


class Linear(linear.Linear):
    def forward(self, x):
        if x[..., 0].size < FEW_ROWS:
            return super().forward(x)
        return product(x, self.weight.data.T), x

    def backward(self, dy, cache):
        x, dy_rows = cache.reshape(-1, cache.shape[-1]), dy.reshape(-1, dy.shape[-1])
        self.weight.grad += product(dy_rows.T, x)
        return product(dy_rows, self.weight.data).reshape(cache.shape)


class SwiGLU(swiglu.SwiGLU):
    linear = Linear


class LossHead(loss_head.LossHead):
    def _forward_chunk(self, rows, targets, logits):
        logits[...] = product(rows, self.weight.data.T)
        return softmax_cross_entropy_(logits, targets)

    def _backward_chunk(self, rows, dlogits, dh):
        self.weight.grad += product(dlogits.T, rows)
        dh[...] = product(dlogits, self.weight.data)


def turned(x: np.ndarray, freqs_cis: np.ndarray) -> np.ndarray:
    return (np.ascontiguousarray(x).view(np.complex128) * freqs_cis).view(np.float64)


class Attention(attention.Attention):
    """One head after another, each with its whole square of scores."""

    linear = Linear

    def _heads(self, qkv):
        """Each query head, with the place of its key and value head: views (T, Dh)."""
        q, k, v = self._split(qkv)
        for b in range(len(qkv)):
            for h in range(self.n_heads):
                kv = h * self.n_kv_heads // self.n_heads
                yield (b, h), q[b, :, h], k[b, :, kv], v[b, :, kv]

    def forward(self, x):
        B, T, D = x.shape
        qkv, qkv_cache = self.qkv_proj.forward(x)
        o, kept = np.empty((B, T, self.n_heads, self.head_dim)), {}
        for (b, h), q, k, v in self._heads(qkv):
            q, k = turned(q, self.scaled_freqs_cis[:T]), turned(k, self.freqs_cis[:T])
            scores = np.where(np.tri(T, dtype=bool), product(q, k.T), -np.inf)  # (queries, keys)
            longest = (np.sqrt(np.square(part).sum(1).max()) for part in (q, k))
            if not np.prod([*longest]) < SAFE_SCORE:
                scores -= scores.max(1, keepdims=True)
            e = np.exp(scores)
            sums = e.sum(1, keepdims=True)
            o[b, :, h] = product(e, v) / sums
            kept[b, h] = q, k, e, sums
        y, o_cache = self.o_proj.forward(o.reshape(B, T, D))
        return y, (qkv, qkv_cache, o, kept, o_cache)

    def backward(self, dy, cache):
        qkv, qkv_cache, o, kept, o_cache = cache
        T = dy.shape[1]
        do = self.o_proj.backward(dy, o_cache).reshape(o.shape)
        dqkv = np.zeros_like(qkv)
        for ((b, h), _, _, v), (_, dq, dk, dv) in zip(self._heads(qkv), self._heads(dqkv), strict=True):
            q, k, e, sums = kept[b, h]
            do_by_sum = do[b, :, h] / sums
            along = (do_by_sum * o[b, :, h]).sum(1, keepdims=True)
            dscores = rounded(e) * (product(do_by_sum, v.T) - along)
            dv += product(e.T, do_by_sum)
            dq += turned(product(dscores, k), self.scaled_freqs_cis[:T].conj())
            dk += turned(product(dscores.T, q), self.freqs_cis[:T].conj())
        return self.qkv_proj.backward(dqkv, qkv_cache)


ROUNDED = Layers(attention=Attention, feed_forward=SwiGLU, loss_head=LossHead)
