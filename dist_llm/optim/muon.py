"""Muon, for matrices: a momentum that is orthogonalized, and whose rows are then made equally long.

After Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon) and NorMuon (Li et al. 2025, arXiv 2510.05491).

    m = mu m + (1 - mu) g
    u = orthogonalize(mu m + (1 - mu) g)                 Nesterov's momentum
    v = beta2 v + (1 - beta2) mean of u^2 over a row     a number for each row
    u = u / sqrt(v), brought back to the length it had
    p = p (1 - lr wd) - lr sqrt(max(1, rows / columns)) u

A step of AdamW is about equally long in each element. One of Muon is equally long in each direction: the gradient's few
large singular values do not drown the many small ones, in which there is as much to be learned. The rows, which are
the neurons, come to differ in length all the same, where there are more of them than columns. In a matrix with more
columns than rows, these are what is made equal.

What is a matrix the model says (`ParamStore.matrices`): gate and up projection are one, q, k and v are not, which would
learn much less. The matrices are shared out among ranks that would all compute the same: see `Sharding.share`.
"""

import math
from collections.abc import Callable, Collection, Mapping

import numpy as np

from dist_llm.config import OptimConfig
from dist_llm.model.params import ROLES, Param, ParamStore
from dist_llm.optim.orthogonal import cost, orthogonalize
from dist_llm.optim.sharding import Sharding, Unsharded
from dist_llm.optim.state import ShardedState, split

TINY = 1e-8


class Muon:
    """The optimizer and its momentum.

    Parameters
    ----------
    params : ParamStore
    config : OptimConfig
    sharding : Sharding, optional
        Shard of the parameters to update, which also holds the momentum; by default all of them.
    roles : collection of str
        Update the parameters of these roles only, all of them matrices.
    """

    whole_tensors = True

    def __init__(
        self,
        params: ParamStore,
        config: OptimConfig,
        sharding: Sharding | None = None,
        roles: Collection[str] = ROLES,
    ) -> None:
        self.config, self.sharding = config, sharding or Unsharded()
        self._all = [param for param in params if param.role in roles]
        first, last, _ = self.sharding.shard.indices(params.size)
        self._own = [param for param in params.matrices() if param.role in roles and first <= param.offset < last]
        self._dtype = params.data.dtype
        self._momentum, self._momenta = self._state("muon_momentum", lambda param: param.shape)
        self._mean_squares, self._means = self._state("muon_mean_squares", lambda param: (max(param.shape),))
        self._updates: list[np.ndarray] = []

    def _state(self, name: str, shape_of: Callable[[Param], tuple[int, ...]]) -> tuple[ShardedState, list[np.ndarray]]:
        """Return a part of the state, and its views for each matrix of this shard."""
        shapes = [shape_of(param) for param in self._own]
        size = sum(map(math.prod, shapes))
        state = ShardedState(name, self._all, size, self._dtype, self.sharding, shape_of)
        return state, split(state.own, shapes)

    def prepare(self) -> None:
        """Compute the updates, each on one rank of those that would compute the same, but change nothing yet."""
        self._updates = self.sharding.share(
            [param.shape for param in self._own],
            [self.cost(param) for param in self._own],
            self._orthogonalize,
            self._dtype,
        )

    def step(self, lr: float) -> None:
        """Update the parameters by their gradients, as prepared."""
        config = self.config
        lr *= config.muon_lr_factor
        beta2 = config.muon_beta2
        for param, momentum, means, update in zip(self._own, self._momenta, self._means, self._updates, strict=True):
            self._accumulate(momentum, param.grad)
            n_rows, n_columns = param.shape
            wide = n_columns > n_rows
            factors = _factors(update.T if wide else update, means, beta2)
            factors *= lr * math.sqrt(max(1, n_rows / n_columns))
            self._move(
                param.data, update, factors if wide else factors[:, np.newaxis], 1 - lr * config.muon_weight_decay
            )
        self._updates = []

    def _accumulate(self, momentum: np.ndarray, grad: np.ndarray) -> None:
        """Take a gradient into its momentum."""
        momentum *= self.config.muon_momentum
        momentum += (1 - self.config.muon_momentum) * grad

    def _move(self, weights: np.ndarray, update: np.ndarray, factors: np.ndarray, decay: float) -> None:
        """Let weights decay, and subtract an update times the factors of its rows (rows, 1) or columns (columns,)."""
        update *= factors
        weights *= decay
        weights -= update

    def _orthogonalize(self, index: int, out: np.ndarray) -> None:
        """Compute one of the updates."""
        mu = self.config.muon_momentum
        nesterov = self._momenta[index] * (mu * mu / (1 - mu * mu))  # its length makes no difference
        nesterov += self._own[index].grad
        orthogonalize(nesterov, out)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the state of all parameters, by name, on rank 0 and nothing on the others; collective."""
        return self._momentum.state_dict() | self._mean_squares.state_dict()

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state_dict` returned, given on rank 0; collective.

        Raises
        ------
        UserError
            It is the state of another model or optimizer.
        """
        self._momentum.load_state_dict(state)
        self._mean_squares.load_state_dict(state)

    @staticmethod
    def cost(param: Param) -> float:
        """Return what orthogonalizing a matrix takes, in multiplications."""
        return cost(*param.shape)


def _factors(update: np.ndarray, means: np.ndarray, beta2: float) -> np.ndarray:
    """Return what makes rows equal (rows,), after taking an update (rows, columns) into their mean squares (rows,)."""
    squares = np.einsum("ij,ij->i", update, update)
    means *= beta2
    means += (1 - beta2) / update.shape[1] * squares
    factors: np.ndarray = 1 / (np.sqrt(means) + TINY)
    length = math.sqrt(squares.sum())
    factors *= length / max(TINY, math.sqrt((squares * factors**2).sum()))
    return factors
