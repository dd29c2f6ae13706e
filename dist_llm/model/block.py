"""One pre-norm Transformer block: x + attention(norm(x)), then x + feed_forward(norm(x))."""

import numpy as np

from dist_llm.model.attention import Attention, KeysAndValues
from dist_llm.model.functional import dropout, dropout_backward
from dist_llm.model.params import ParamStore
from dist_llm.model.rmsnorm import RMSNorm
from dist_llm.model.swiglu import SwiGLU

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
        turns: np.ndarray,
        norm_eps: float,
        dropout: float,
        init_std: float,
        out_std: float,
    ) -> None:
        self.input_layernorm = RMSNorm(store, f"{name}.input_layernorm", dim, norm_eps)
        self.self_attn = Attention(store, f"{name}.self_attn", dim, n_heads, n_kv_heads, turns, init_std, out_std)
        self.post_attention_layernorm = RMSNorm(store, f"{name}.post_attention_layernorm", dim, norm_eps)
        self.mlp = SwiGLU(store, f"{name}.mlp", dim, ffn_dim, init_std, out_std)
        self.dropout = dropout

    def forward(self, x: np.ndarray, rngs: Generators = None) -> tuple[np.ndarray, tuple]:
        """Map (B, T, D) to (B, T, D); `rngs` (one per sequence) switches dropout on."""
        h, norm1 = self.input_layernorm.forward(x)
        h, attn = self.self_attn.forward(h)
        h, mask1 = dropout(h, self.dropout, rngs)
        x = x + h
        h, norm2 = self.post_attention_layernorm.forward(x)
        h, mlp = self.mlp.forward(h)
        h, mask2 = dropout(h, self.dropout, rngs)
        return x + h, (norm1, attn, mask1, norm2, mlp, mask2)

    def backward(self, dy: np.ndarray, cache: tuple) -> np.ndarray:
        """Map (B, T, D) back to (B, T, D)."""
        norm1, attn, mask1, norm2, mlp, mask2 = cache
        dh = dropout_backward(dy, mask2)
        dh = self.mlp.backward(dh, mlp)
        dx = dy + self.post_attention_layernorm.backward(dh, norm2)
        dh = dropout_backward(dx, mask1)
        dh = self.self_attn.backward(dh, attn)
        dx += self.input_layernorm.backward(dh, norm1)
        return dx

    def decode(self, x: np.ndarray, start: int, kv_cache: KeysAndValues) -> np.ndarray:
        """`forward` for t new positions behind the `start` cached ones: (B, t, D) to (B, t, D)."""
        x = x + self.self_attn.decode(self.input_layernorm.forward(x)[0], start, kv_cache)
        return x + self.mlp.forward(self.post_attention_layernorm.forward(x)[0])[0]
