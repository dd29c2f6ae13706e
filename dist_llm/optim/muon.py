"""Muon: momentum, orthogonalized (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), for matrices.

    m = mu m + (1 - mu) g
    u = orthogonalize(mu m + (1 - mu) g)                 Nesterov's momentum
    p = p (1 - lr wd) - lr sqrt(max(1, rows / columns)) u

A step of AdamW is about equally long in each element. One of Muon is equally long in each direction: the gradient's few
large singular values do not drown the many small ones, in which there is as much to be learned.

The matrices are shared out among ranks that would all compute the same: see `Sharding.share`.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from dist_llm.config import OptimConfig
from dist_llm.errors import UserError
from dist_llm.model.params import ROLES, Param, ParamStore
from dist_llm.optim.orthogonal import COEFFICIENTS, orthogonalize
from dist_llm.optim.sharding import Sharding, Unsharded
from dist_llm.partition import consecutive


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

    Attributes
    ----------
    momentum : ndarray of shape (n,)
        That of the n parameters it updates, in their order.
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
        self._own = [param for param in self._all if first <= param.offset < last]
        n = sum(param.size for param in self._own)
        self.momentum = self.sharding.new_state("muon", n, params.data.dtype)
        self._momenta = self._split(self.momentum, self._own)
        self._updates: list[np.ndarray] = []

    def prepare(self) -> None:
        """Compute the updates, each on one rank of those that would compute the same, but change nothing yet."""
        self._updates = self.sharding.share(
            [param.shape for param in self._own],
            [self.cost(param) for param in self._own],
            self._orthogonalize,
            self.momentum.dtype,
        )

    def step(self, lr: float) -> None:
        """Update the parameters by their gradients, as prepared."""
        mu = self.config.muon_momentum
        lr *= self.config.muon_lr / self.config.lr
        for param, momentum, update in zip(self._own, self._momenta, self._updates, strict=True):
            momentum *= mu
            momentum += (1 - mu) * param.grad
            param.data *= 1 - lr * self.config.muon_weight_decay
            param.data -= lr * math.sqrt(max(1, param.shape[0] / param.shape[1])) * update
        self._updates = []

    def _orthogonalize(self, indices: Sequence[int], out: Sequence[np.ndarray]) -> None:
        """Compute some of the updates."""
        mu = self.config.muon_momentum
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for place, index in enumerate(indices):
            by_shape.setdefault(self._own[index].shape, []).append(place)
        for shape, places in by_shape.items():
            nesterov = np.empty((len(places), *shape), self.momentum.dtype)
            for x, place in zip(nesterov, places, strict=True):
                param, momentum = self._own[indices[place]], self._momenta[indices[place]]
                np.multiply(momentum, mu * mu, out=x)
                x += (1 - mu * mu) * param.grad
            for update, place in zip(orthogonalize(nesterov), places, strict=True):
                out[place][...] = update

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the momentum of all parameters, by name, on rank 0 and nothing on the others; collective."""
        whole = self.sharding.gather(self.momentum)
        if whole is None:
            return {}
        momenta = self._split(whole, self._all)
        return {f"momentum.{param.name}": part for param, part in zip(self._all, momenta, strict=True)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state_dict` returned, given on rank 0; collective.

        Raises
        ------
        UserError
            It is the state of another model or optimizer.
        """
        whole = np.concatenate([self._momentum_of(param, state).ravel() for param in self._all]) if state else None
        self.sharding.scatter(whole, self.momentum)

    def _momentum_of(self, param: Param, state: Mapping[str, np.ndarray]) -> np.ndarray:
        array = state.get(name := f"momentum.{param.name}")
        if array is None or (array.shape, array.dtype) != (param.shape, self.momentum.dtype):
            is_ = "missing" if array is None else f"{array.dtype} {array.shape}"
            raise UserError(
                f"the optimizer's state is that of another model or optimizer: {name} is {is_}, not "
                f"{self.momentum.dtype} {param.shape}"
            )
        return array

    @staticmethod
    def cost(param: Param) -> float:
        """Return what orthogonalizing a matrix takes, in multiplications."""
        m, n = sorted(param.shape)
        return len(COEFFICIENTS) * (1.5 * m * m * n + 0.5 * m**3)

    @staticmethod
    def _split(whole: np.ndarray, params: Sequence[Param]) -> list[np.ndarray]:
        slices = consecutive(param.size for param in params)
        return [whole[part].reshape(param.shape) for param, part in zip(params, slices, strict=True)]
