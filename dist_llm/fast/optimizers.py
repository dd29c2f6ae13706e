"""`optim.adamw` and `optim.muon`, each pass over their numbers compiled: the same in every bit, fewer passes."""

import numpy as np

from dist_llm.fast.compiled import compiled_exactly
from dist_llm.optim import adamw, muon
from dist_llm.optim.registry import Optimizers


class AdamW(adamw.AdamW):
    """The same, in one pass, which leaves nothing for a cache to keep."""

    chunk = 1 << 24

    def _update(
        self, p: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, decay: float, step_size: float, root: float
    ) -> None:
        beta1, beta2 = self.config.beta1, self.config.beta2
        factors = beta1, 1 - beta1, beta2, 1 - beta2, decay, root, self.config.eps, step_size
        adamw_(p, g, m, v, *map(np.float32, factors))


class Muon(muon.Muon):
    """The same, but for the products, which are NumPy's."""

    def _accumulate(self, momentum: np.ndarray, grad: np.ndarray) -> None:
        mu = self.config.muon_momentum
        accumulate_(momentum.ravel(), np.float32(mu), grad.ravel(), np.float32(1 - mu))

    def _move(self, weights: np.ndarray, update: np.ndarray, factors: np.ndarray, decay: float) -> None:
        move = move_by_rows_ if factors.ndim == 2 else move_by_columns_
        move(weights, update, factors.ravel(), np.float32(decay))


@compiled_exactly
def adamw_(p, g, m, v, beta1, one_beta1, beta2, one_beta2, decay, root, eps, step_size):
    """Update parameters and moments by their gradients, all (n,)."""
    for i in range(len(p)):
        m[i] = m[i] * beta1 + g[i] * one_beta1
        v[i] = v[i] * beta2 + g[i] * g[i] * one_beta2
        p[i] = p[i] * decay - m[i] / (np.sqrt(v[i]) * root + eps) * step_size


@compiled_exactly
def accumulate_(x, decay, y, factor):
    """Compute x = decay x + factor y, both (n,)."""
    for i in range(len(x)):
        x[i] = x[i] * decay + y[i] * factor


@compiled_exactly
def move_by_rows_(weights, update, factors, decay):
    """Compute weights = decay weights - factors update, a factor for each row."""
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            weights[i, j] = weights[i, j] * decay - update[i, j] * factors[i]


@compiled_exactly
def move_by_columns_(weights, update, factors, decay):
    """Do the same with a factor for each column."""
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            weights[i, j] = weights[i, j] * decay - update[i, j] * factors[j]


OPTIMIZERS: Optimizers = {adamw.AdamW: AdamW, muon.Muon: Muon}
