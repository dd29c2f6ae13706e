"""One pre-norm Transformer block: x + attention(norm(x)), then x + feed_forward(norm(x))."""

import numpy as np

from dist_llm.model.functional import dropout, dropout_backward
from dist_llm.model.layer import Cache, Observe
from dist_llm.model.layers import Layers
from dist_llm.model.params import ParamStore

Generators = list[np.random.Generator] | None


class Block:
    """Attention and feed-forward, each behind a norm and beside a residual connection."""

    def __init__(
        self,
        store: ParamStore,
        name: str,
        *,
        dim: int,
        n_heads: int,
        n_kv_heads: int,
        ffn_dim: int,
        freqs_cis: np.ndarray,
        norm_eps: float,
        dropout: float,
        init_std: float,
        out_std: float,
        observe: Observe,
        layers: Layers,
    ) -> None:
        norm1 = layers.norm(store, f"{name}.input_layernorm", dim, norm_eps)
        attention = layers.attention(store, f"{name}.self_attn", dim, n_heads, n_kv_heads, freqs_cis, init_std, out_std)
        norm2 = layers.norm(store, f"{name}.post_attention_layernorm", dim, norm_eps)
        feed_forward = layers.feed_forward(store, f"{name}.mlp", dim, ffn_dim, init_std, out_std)
        self.input_layernorm = observe("norms", norm1)
        self.self_attn = observe("attention", attention)
        self.post_attention_layernorm = observe("norms", norm2)
        self.mlp = observe("feed-forward", feed_forward)
        self.dropout = dropout

    def forward(self, x: np.ndarray, rngs: Generators = None) -> tuple[np.ndarray, Cache]:
        """Map (B, T, D) to (B, T, D); `rngs` (one per sequence) switches dropout on."""
        y, norm1 = self.input_layernorm.forward(x)
        y, attn = self.self_attn.forward(y)
        y, mask1 = dropout(y, self.dropout, rngs)
        y += x
        z, norm2 = self.post_attention_layernorm.forward(y)
        z, mlp = self.mlp.forward(z)
        z, mask2 = dropout(z, self.dropout, rngs)
        z += y
        return z, (norm1, attn, mask1, norm2, mlp, mask2)

    def backward(self, dz: np.ndarray, cache: Cache) -> np.ndarray:
        """Map (B, T, D) back to (B, T, D)."""
        norm1, attn, mask1, norm2, mlp, mask2 = cache
        dy = dropout_backward(dz, mask2)
        dy = self.mlp.backward(dy, mlp)
        dy = self.post_attention_layernorm.backward(dy, norm2)
        dy += dz
        dx = dropout_backward(dy, mask1)
        dx = self.self_attn.backward(dx, attn)
        dx = self.input_layernorm.backward(dx, norm1)
        dx += dy
        return dx

    def decode(self, x: np.ndarray, start: int, kv_cache: np.ndarray) -> np.ndarray:
        """`forward` for t new positions behind the `start` cached ones: (B, t, D) to (B, t, D)."""
        x = x + self.self_attn.decode(self.input_layernorm.forward(x)[0], start, kv_cache)
        return x + self.mlp.forward(self.post_attention_layernorm.forward(x)[0])[0]
