"""AdamW on the flat buffer (Loshchilov and Hutter 2019, arXiv 1711.05101).

    m = beta1 m + (1 - beta1) g
    v = beta2 v + (1 - beta2) g^2
    p = p (1 - lr wd) - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

The decay is on matrices only: gains of norms are no weights to be kept small.
"""

import math

import numpy as np

from dist_llm.config import OptimConfig
from dist_llm.model.params import ParamStore

CHUNK = 1 << 14  # elements: parameter, gradient, two moments and scratch of a chunk together stay in the L2 cache


class AdamW:
    """The optimizer and its two moments.

    Parameters
    ----------
    params : ParamStore
    config : OptimConfig
    part : slice
        Of the flat buffers, what this optimizer updates; all of them unless told.

    Attributes
    ----------
    m, v : ndarray of shape (P,), or as long as the part
        First and second moment, laid out as the parameters.
    steps : int
        Steps taken so far, the t of the bias correction.
    """

    def __init__(self, params: ParamStore, config: OptimConfig, part: slice = slice(None)) -> None:
        self.params, self.config = params, config
        self.m, self.v = np.zeros_like(params.data[part]), np.zeros_like(params.data[part])
        self.steps = 0
        first, last, _ = part.indices(params.size)
        self._first = first
        self._chunks = [
            (
                slice(start, min(start + CHUNK, param.slice.stop, last)),
                config.weight_decay if len(param.shape) > 1 else 0.0,
            )
            for param in params
            for start in range(max(param.slice.start, first), min(param.slice.stop, last), CHUNK)
        ]

    @property
    def moments(self) -> dict[str, np.ndarray]:
        """Both moments by their names."""
        return {"m": self.m, "v": self.v}

    def step(self, lr: float) -> None:
        """Update the parameters by their gradients."""
        self.steps += 1
        beta1, beta2 = self.config.beta1, self.config.beta2
        correction1, correction2 = 1 - beta1**self.steps, 1 - beta2**self.steps
        scratch_buffer = np.empty(CHUNK, self.m.dtype)
        for chunk, weight_decay in self._chunks:
            p, g = self.params.data[chunk], self.params.grad[chunk]
            own = slice(chunk.start - self._first, chunk.stop - self._first)
            m, v = self.m[own], self.v[own]
            scratch = scratch_buffer[: len(p)]
            m *= beta1
            m += np.multiply(g, 1 - beta1, out=scratch)
            v *= beta2
            np.multiply(g, g, out=scratch)
            scratch *= 1 - beta2
            v += scratch
            if weight_decay:
                p *= 1 - lr * weight_decay
            np.sqrt(v, out=scratch)
            scratch *= 1 / math.sqrt(correction2)
            scratch += self.config.eps
            np.divide(m, scratch, out=scratch)
            scratch *= lr / correction1
            p -= scratch
