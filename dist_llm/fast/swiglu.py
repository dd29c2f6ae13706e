"""`model.swiglu`, compiled."""

import numpy as np

from dist_llm.fast.compiled import compiled
from dist_llm.fast.elementwise import exp
from dist_llm.fast.linear import Linear
from dist_llm.fast.threads import share_out_arrays
from dist_llm.model import swiglu
from dist_llm.model.layer import Cache


class SwiGLU(swiglu.SwiGLU):
    """The same, the nonlinearity in one pass."""

    linear = Linear

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """Map (B, T, D) to (B, T, D)."""
        gate, gate_cache = self.gate_proj.forward(x)
        up, up_cache = self.up_proj.forward(x)
        h = np.empty_like(gate)
        share_out_arrays(silu_multiply, gate.ravel(), up.ravel(), h.ravel())
        y, down_cache = self.down_proj.forward(h)
        return y, (gate_cache, up_cache, (gate, up), down_cache)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """Map (B, T, D) back to (B, T, D)."""
        gate_cache, up_cache, (gate, up), down_cache = cache
        dh = self.down_proj.backward(dy, down_cache)
        dgate, dup = np.empty_like(gate), np.empty_like(up)
        share_out_arrays(silu_multiply_backward, dh.ravel(), gate.ravel(), up.ravel(), dgate.ravel(), dup.ravel())
        dx = self.up_proj.backward(dup, up_cache)
        dx += self.gate_proj.backward(dgate, gate_cache)
        return dx


@compiled
def silu_multiply(gate, up, h):
    """Compute h = silu(gate) * up."""
    for i in range(len(gate)):
        h[i] = gate[i] * up[i] / (np.float32(1) + exp(-gate[i]))


@compiled
def silu_multiply_backward(dh, gate, up, dgate, dup):
    """Fill the gradients of `silu_multiply`."""
    for i in range(len(gate)):
        s = np.float32(1) / (np.float32(1) + exp(-gate[i]))
        silu = gate[i] * s
        dup[i] = silu * dh[i]
        dgate[i] = (s + silu * (np.float32(1) - s)) * up[i] * dh[i]
