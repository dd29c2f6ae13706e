"""`model.llama`, with a compiled way to read one token after another, which is what generation does.

A matrix times a single vector takes as long as the matrix takes to come from memory, so its product need not be clever:
what counts is that little else is done. A token is one call of one function, through all layers, in float32.
"""

from typing import Any

import numpy as np

from dist_llm.fast.compiled import compiled, compiled_sums
from dist_llm.fast.elementwise import exp, largest_of
from dist_llm.fast.swiglu import silu_multiply
from dist_llm.model import llama


class Llama(llama.Llama):
    """The same, but a single token of a single text is decoded by a compiled function."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tensors = [
            (
                block.input_layernorm.gain,
                block.self_attn.qkv_proj.weight,
                block.self_attn.o_proj.weight,
                block.post_attention_layernorm.gain,
                block.mlp.gate_proj.weight,
                block.mlp.up_proj.weight,
                block.mlp.down_proj.weight,
            )
            for block in self.layers
        ]
        self._offsets = np.array([[tensor.offset for tensor in of_block] for of_block in tensors])

    def decode(self, tokens: np.ndarray, start: int, kv_cache: np.ndarray) -> np.ndarray:
        """Return the logits (B, V) after t new tokens that follow ``start`` cached ones."""
        if tokens.size > 1:
            return super().decode(tokens, start, kv_cache)
        token = tokens.item()
        # Nothing compiled checks where it reads and writes.
        assert 0 <= token < self.vocab_size, token
        assert 0 <= start < kv_cache.shape[4] <= len(self.freqs_cis), start
        logits = np.empty((1, self.vocab_size), np.float32)
        decode(
            token, start, self.params.data, self._offsets, self.norm.gain.offset, self.loss_head.weight.offset,
            np.float32(self.config.norm_eps), self.config.n_heads, self.config.ffn_dim,
            self.freqs_cis.view(np.float32), kv_cache, logits[0],
        )  # fmt: skip
        return logits


@compiled
def decode(token, position, weights, offsets, last_norm, output, eps, n_heads, ffn_dim, turns, kv_cache, logits):
    """Fill logits (V,), and the keys and values of a position in the cache (n_layers, 2, 1, K, max_seq_len, Dh).

    Tensors lie in `weights` (P,): those of each layer at `offsets` (n_layers, 7) in the order of their use, then the
    last norm's and the output projection. `turns` (max_seq_len, Dh) are the complex numbers of the rotary embedding.
    """
    n_layers, _, _, n_kv_heads, _, head_dim = kv_cache.shape
    dim, group = n_heads * head_dim, n_heads // n_kv_heads
    x = weights[token * dim : (token + 1) * dim].copy()
    y, o, qkv = np.empty_like(x), np.empty_like(x), np.empty(dim + 2 * n_kv_heads * head_dim, np.float32)
    gate, up, h = np.empty(ffn_dim, np.float32), np.empty(ffn_dim, np.float32), np.empty(ffn_dim, np.float32)
    heads, o_heads = qkv.reshape(-1, head_dim), o.reshape(-1, head_dim)
    scores = np.empty(position + 1, np.float32)
    for layer in range(n_layers):
        norm1, qkv_proj, o_proj, norm2, gate_proj, up_proj, down_proj = offsets[layer]
        keys, values = kv_cache[layer, 0, 0], kv_cache[layer, 1, 0]
        normalize(x, weights, norm1, eps, y)
        multiply(weights, qkv_proj, y, qkv)
        rotate(heads[: n_heads + n_kv_heads], turns[position])
        for k in range(n_kv_heads):
            for i in range(head_dim):
                keys[k, position, i] = heads[n_heads + k, i]
                values[k, position, i] = heads[n_heads + n_kv_heads + k, i]
        for k in range(n_heads):
            attend(heads[k], keys[k // group], values[k // group], scores, o_heads[k])
        multiply(weights, o_proj, o, y)
        x += y
        normalize(x, weights, norm2, eps, y)
        multiply(weights, gate_proj, y, gate)
        multiply(weights, up_proj, y, up)
        silu_multiply(gate, up, h)
        multiply(weights, down_proj, h, y)
        x += y
    normalize(x, weights, last_norm, eps, y)
    multiply(weights, output, y, logits)


@compiled_sums
def multiply(weights, offset, x, y):
    """Compute y = W x, with the rows of W in `weights` from `offset` on."""
    n = len(x)
    for i in range(len(y)):
        row = weights[offset + i * n : offset + (i + 1) * n]
        total = np.float32(0)
        for j in range(n):
            total += row[j] * x[j]
        y[i] = total


@compiled_sums
def normalize(x, weights, offset, eps, y):
    """RMSNorm, with the gain in `weights` from `offset` on."""
    square = np.float32(0)
    for i in range(len(x)):
        square += x[i] * x[i]
    factor = np.float32(1) / np.sqrt(square / np.float32(len(x)) + eps)
    for i in range(len(x)):
        y[i] = x[i] * factor * weights[offset + i]


@compiled
def rotate(heads, turn):
    """Turn each pair of each head (n, Dh) in place."""
    n, head_dim = heads.shape
    for h in range(n):
        for i in range(0, head_dim, 2):
            a, b, real, imaginary = heads[h, i], heads[h, i + 1], turn[i], turn[i + 1]
            heads[h, i] = a * real - b * imaginary
            heads[h, i + 1] = a * imaginary + b * real


@compiled_sums
def attend(q, keys, values, scores, o):
    """Compute o = softmax(q k^T / sqrt(Dh)) v of one head, over as many positions as `scores` has room for."""
    T, head_dim = len(scores), len(q)
    scale = np.float32(1) / np.sqrt(np.float32(head_dim))
    for t in range(T):
        score = np.float32(0)
        for i in range(head_dim):
            score += q[i] * keys[t, i]
        scores[t] = score * scale
    most = largest_of(scores)
    total = np.float32(0)
    for t in range(T):
        scores[t] = exp(scores[t] - most)
        total += scores[t]
    for i in range(head_dim):
        o[i] = 0
    for t in range(T):
        share = scores[t] / total
        for i in range(head_dim):
            o[i] += share * values[t, i]
