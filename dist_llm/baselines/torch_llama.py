"""An independent Llama in PyTorch: the same mathematics from PyTorch's own parts, gradients by autograd.

Only the names of the parameters are shared with ours. Rotary embedding by cosines and sines, grouped keys repeated,
attention by `scaled_dot_product_attention`. The tests hold our model to it, and the benchmark measures it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from dist_llm.config import ModelConfig, OptimConfig

Rope = Callable[[torch.Tensor, float], torch.Tensor]


class RMSNorm(nn.Module):
    """Root mean square norm."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., D) to (..., D)."""
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def apply_rope(x: torch.Tensor, theta: float) -> torch.Tensor:
    """(B, H, T, Dh): turn the pairs (2i, 2i + 1)."""
    T, Dh = x.shape[-2:]
    angles = torch.outer(
        torch.arange(T, dtype=torch.float64), theta ** (-torch.arange(0, Dh, 2, dtype=torch.float64) / Dh)
    )
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class RotaryTables:
    """`apply_rope` with tables.

    By itself it computes the angles at every call, in double precision. That is plain to read and costs little, but
    torch.compile merges it into the loops over all sequences and heads, and is slowed down by it.
    """

    def __init__(self, c: ModelConfig) -> None:
        head_dim = c.dim // c.n_heads
        wavenumbers = c.rope_theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        angles = torch.outer(torch.arange(c.max_seq_len, dtype=torch.float64), wavenumbers)
        self._cos, self._sin = angles.cos().float(), angles.sin().float()

    def __call__(self, x: torch.Tensor, theta: float) -> torch.Tensor:
        """(B, H, T, Dh): turn the pairs (2i, 2i + 1)."""
        T = x.shape[-2]
        cos, sin = self._cos[:T].to(x.dtype), self._sin[:T].to(x.dtype)
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, c: ModelConfig, rope: Rope) -> None:
        super().__init__()
        self.rope = rope
        self.c, self.head_dim, self.kv_heads = c, c.dim // c.n_heads, c.n_kv_heads or c.n_heads
        self.q_proj = nn.Linear(c.dim, c.dim, bias=False)
        self.k_proj = nn.Linear(c.dim, self.kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(c.dim, self.kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(c.dim, c.dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, T, D) to (B, T, D)."""
        B, T, D = x.shape
        q = self.q_proj(x).view(B, T, -1, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(B, T, -1, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(B, T, -1, self.head_dim).transpose(1, 2)
        q, k = self.rope(q, self.c.rope_theta), self.rope(k, self.c.rope_theta)
        repeats = self.c.n_heads // self.kv_heads
        k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(o.transpose(1, 2).reshape(B, T, D))


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(c.dim, c.ffn_dim, bias=False)
        self.up_proj = nn.Linear(c.dim, c.ffn_dim, bias=False)
        self.down_proj = nn.Linear(c.ffn_dim, c.dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, T, D) to (B, T, D)."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """A Transformer block."""

    def __init__(self, c: ModelConfig, rope: Rope) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(c.dim, c.norm_eps)
        self.self_attn = Attention(c, rope)
        self.post_attention_layernorm = RMSNorm(c.dim, c.norm_eps)
        self.mlp = MLP(c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, T, D) to (B, T, D)."""
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class TorchLlama(nn.Module):
    """The whole model."""

    def __init__(self, c: ModelConfig, vocab_size: int, rope: Rope = apply_rope) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(vocab_size, c.dim)
        self.model.layers = nn.ModuleList(Layer(c, rope) for _ in range(c.n_layers))
        self.model.norm = RMSNorm(c.dim, c.norm_eps)
        self.lm_head = None if c.tie_embeddings else nn.Linear(c.dim, vocab_size, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (B, T) to logits (B, T, V)."""
        x = self.model.embed_tokens(tokens)
        for layer in self.model.layers:
            x = layer(x)
        output = self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        return F.linear(self.model.norm(x), output)

    def loss(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy per token."""
        return F.cross_entropy(self(tokens).flatten(0, 1), targets.flatten())


def torch_adamw(model: TorchLlama, optim: OptimConfig) -> torch.optim.AdamW:
    """PyTorch's AdamW with decay on matrices only, for an `OptimConfig`."""
    params = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in params if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in params if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=optim.lr, betas=(optim.beta1, optim.beta2), eps=optim.eps)
