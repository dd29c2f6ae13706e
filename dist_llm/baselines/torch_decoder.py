"""Generation with a KV cache by the independent PyTorch model.

What it computes per token is as little as PyTorch allows: matrices of one row, preallocated caches, a table of rotary
angles, turned as complex numbers, and no autograd.
"""

import numpy as np
import torch
from torch.nn import functional as F

from dist_llm.baselines.torch_llama import TorchLlama


class TorchDecoder:
    """A model that reads one text, token by token.

    Parameters
    ----------
    llama : TorchLlama
    freqs_cis : ndarray of shape (max_seq_len, Dh / 2)
        Complex number by which each pair is turned at each position.
    """

    def __init__(self, llama: TorchLlama, freqs_cis: np.ndarray) -> None:
        self._llama, self._freqs_cis = llama, torch.from_numpy(freqs_cis)
        attention = llama.model.layers[0].self_attn
        shape = (1, attention.kv_heads, len(freqs_cis), attention.head_dim)
        self._caches = [(torch.empty(shape), torch.empty(shape)) for _ in llama.model.layers]

    def decode(self, token: int, position: int) -> torch.Tensor:
        """Read the token at a position, and return the logits (V,) of the next."""
        with torch.inference_mode():
            return self._decode(token, position)

    def _decode(self, token: int, position: int) -> torch.Tensor:
        body = self._llama.model
        x = body.embed_tokens(torch.tensor([token]))  # (1, D)
        for layer, (keys, values) in zip(body.layers, self._caches, strict=True):
            attention, h = layer.self_attn, layer.input_layernorm(x)
            q = self._rotate(attention.q_proj(h), position)  # (1, H, Dh)
            keys[:, :, position] = self._rotate(attention.k_proj(h), position)
            values[:, :, position] = attention.v_proj(h).view(1, -1, attention.head_dim)
            k, v = keys[:, :, : position + 1], values[:, :, : position + 1]
            o = F.scaled_dot_product_attention(q[:, :, None], k, v, enable_gqa=k.shape[1] < q.shape[1])
            x = x + attention.o_proj(o.reshape(1, -1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        output = body.embed_tokens if self._llama.lm_head is None else self._llama.lm_head
        return F.linear(body.norm(x), output.weight)[0]

    def _rotate(self, x: torch.Tensor, position: int) -> torch.Tensor:
        """(1, H * Dh) -> (1, H, Dh), turned."""
        pairs = torch.view_as_complex(x.view(1, -1, self._freqs_cis.shape[1], 2)) * self._freqs_cis[position]
        return torch.view_as_real(pairs).flatten(-2)
