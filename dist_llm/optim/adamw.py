"""AdamW on the flat buffer (Loshchilov and Hutter 2019, arXiv 1711.05101).

    m = beta1 m + (1 - beta1) g
    v = beta2 v + (1 - beta2) g^2
    p = p (1 - lr wd) - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

The decay is on matrices only: gains of norms are no weights to be kept small.
"""

import math
from collections.abc import Collection, Mapping

import numpy as np

from dist_llm.config import OptimConfig
from dist_llm.errors import UserError
from dist_llm.model.params import ROLES, Param, ParamStore
from dist_llm.optim.sharding import Sharding, Unsharded
from dist_llm.optim.state import ShardedState


class AdamW:
    """The optimizer and its two moments.

    Parameters
    ----------
    params : ParamStore
    config : OptimConfig
    sharding : Sharding, optional
        Shard of the parameters to update, which also holds the moments; by default all of them.
    roles : collection of str
        Update the parameters of these roles only.

    Attributes
    ----------
    m, v : ndarray of shape (n,)
        First and second moment of the n parameters that it updates, in their order.
    steps : int
        Steps taken so far, the t of the bias correction.
    """

    whole_tensors = False
    chunk = 1 << 14  # elements: parameter, gradient, two moments and scratch of a chunk together stay in the L2 cache

    def __init__(
        self,
        params: ParamStore,
        config: OptimConfig,
        sharding: Sharding | None = None,
        roles: Collection[str] = ROLES,
    ) -> None:
        self.params, self.config, self.sharding = params, config, sharding or Unsharded()
        self.steps = 0
        self._tensors = [param for param in params if param.role in roles]
        # Of each chunk: where it lies in the flat buffers, where in the moments, and its weight decay.
        self._chunks: list[tuple[slice, slice, float]] = []
        first, last, _ = self.sharding.shard.indices(params.size)
        n = 0
        for param in self._tensors:
            decay = 0.0 if param.role == "gain" else config.weight_decay
            for start in range(max(param.slice.start, first), min(param.slice.stop, last), self.chunk):
                stop = min(start + self.chunk, param.slice.stop, last)
                self._chunks.append((slice(start, stop), slice(n, n + stop - start), decay))
                n += stop - start
        dtype = params.data.dtype
        self._m, self._v = (ShardedState(name, self._tensors, n, dtype, self.sharding) for name in ("m", "v"))
        self.m, self.v = self._m.own, self._v.own

    def prepare(self) -> None:
        """Do nothing: every rank updates what is its own."""

    def step(self, lr: float) -> None:
        """Update the parameters by their gradients."""
        self.steps += 1
        beta1, beta2 = self.config.beta1, self.config.beta2
        step_size, root = lr / (1 - beta1**self.steps), 1 / math.sqrt(1 - beta2**self.steps)
        for chunk, own, weight_decay in self._chunks:
            p, g = self.params.data[chunk], self.params.grad[chunk]
            self._update(p, g, self.m[own], self.v[own], 1 - lr * weight_decay, step_size, root)

    def _update(
        self, p: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, decay: float, step_size: float, root: float
    ) -> None:
        """Update a chunk of parameters, and of both moments, by its gradient; the last two correct the bias."""
        beta1, beta2 = self.config.beta1, self.config.beta2
        scratch = np.empty_like(p)
        m *= beta1
        m += np.multiply(g, 1 - beta1, out=scratch)
        v *= beta2
        np.multiply(g, g, out=scratch)
        scratch *= 1 - beta2
        v += scratch
        if decay != 1:
            p *= decay
        np.sqrt(v, out=scratch)
        scratch *= root
        scratch += self.config.eps
        np.divide(m, scratch, out=scratch)
        scratch *= step_size
        p -= scratch

    @staticmethod
    def cost(param: Param) -> float:
        """Return what the divisions and roots take, in multiplications."""
        return 30.0 * param.size

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return steps and moments of all parameters, by name, on rank 0 and nothing on the others; collective."""
        moments = self._m.state_dict() | self._v.state_dict()
        return {"steps": np.array([self.steps])} | moments if moments else {}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state_dict` returned, given on rank 0; collective.

        Raises
        ------
        UserError
            It is the state of another model, or of no optimizer.
        """
        steps = np.array(state.get("steps", [0]))
        if steps.shape != (1,) or steps.dtype.kind != "i" or steps[0] < 0:
            raise UserError("the optimizer's state is damaged: its steps are not a number of steps")
        self._m.load_state_dict(state)
        self._v.load_state_dict(state)
        self.sharding.bcast_(steps)
        self.steps = int(steps[0])
