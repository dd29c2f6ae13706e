"""SwiGLU feed-forward (Shazeer 2020, arXiv 2002.05202): y = (silu(x Wg^T) * (x Wu^T)) Wd^T."""

import numpy as np

from dist_llm.model.functional import silu_multiply, silu_multiply_backward
from dist_llm.model.layer import Cache
from dist_llm.model.linear import Linear
from dist_llm.model.params import ParamStore


class SwiGLU:
    """The feed-forward of a block: D -> F twice, gated, F -> D."""

    linear = Linear

    def __init__(self, store: ParamStore, name: str, dim: int, ffn_dim: int, init_std: float, out_std: float) -> None:
        self.gate_proj = self.linear(store.declare(f"{name}.gate_proj.weight", (ffn_dim, dim), "hidden", init_std))
        # Muon may take both as one: it learns as much, and costs a tenth less.
        as_one = ffn_dim >= dim
        self.up_proj = self.linear(store.declare(f"{name}.up_proj.weight", (ffn_dim, dim), "hidden", init_std, as_one))
        self.down_proj = self.linear(store.declare(f"{name}.down_proj.weight", (dim, ffn_dim), "hidden", out_std))

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """Map (B, T, D) to (B, T, D)."""
        # Gate and up are two arrays: as halves of one, every elementwise step below would be strided and 3x slower.
        gate, gate_cache = self.gate_proj.forward(x)
        up, up_cache = self.up_proj.forward(x)
        h, h_cache = silu_multiply(gate, up)
        y, down_cache = self.down_proj.forward(h)
        return y, (gate_cache, up_cache, h_cache, down_cache)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """Map (B, T, D) back to (B, T, D)."""
        gate_cache, up_cache, h_cache, down_cache = cache
        dh = self.down_proj.backward(dy, down_cache)
        dgate, dup = silu_multiply_backward(dh, h_cache)
        dx = self.up_proj.backward(dup, up_cache)
        dx += self.gate_proj.backward(dgate, gate_cache)
        return dx
