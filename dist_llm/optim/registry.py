"""Which optimizer updates which parameters, by their role: a line each."""

from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Protocol

import numpy as np

from dist_llm.config import OptimConfig
from dist_llm.model.params import Param, ParamStore
from dist_llm.optim.adamw import AdamW
from dist_llm.optim.muon import Muon
from dist_llm.optim.sharding import Sharding


class Optimizer(Protocol):
    """What a training step needs of an optimizer.

    Attributes
    ----------
    whole_tensors : bool
        Whether a shard may begin and end only where a tensor does.
    """

    whole_tensors: bool

    def prepare(self) -> None:
        """Do what other ranks have a part in, before anything is changed; collective."""
        ...

    def step(self, lr: float) -> None:
        """Update the parameters, within its shard, by their gradients; `prepare` has been called."""
        ...

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the state of all shards, by name, on rank 0 and nothing on the others; collective."""
        ...

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state_dict` returned, given on rank 0; collective."""
        ...


class OptimizerOfRoles(Optimizer, Protocol):
    """An optimizer that can be registered: it updates the parameters of some roles; see `AdamW`."""

    def __init__(
        self, params: ParamStore, config: OptimConfig, sharding: Sharding | None, roles: Collection[str]
    ) -> None: ...

    @staticmethod
    def cost(param: Param) -> float:
        """Return about how many multiplications a step takes for a parameter."""
        ...


Optimizers = Mapping[type[OptimizerOfRoles], type[OptimizerOfRoles]]  # others that do the same, such as compiled ones

# The optimizer of each role, by `optim.optimizer`.
OPTIMIZERS: dict[str, dict[str, type[OptimizerOfRoles]]] = {
    "adamw": {"embedding": AdamW, "hidden": AdamW, "gain": AdamW, "head": AdamW},
    "muon": {"embedding": AdamW, "hidden": Muon, "gain": AdamW, "head": AdamW},
}


class Several:
    """Optimizers side by side, each with parameters of its own."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = optimizers
        self.whole_tensors = any(optimizer.whole_tensors for optimizer in optimizers)

    def prepare(self) -> None:
        """Let each prepare."""
        for optimizer in self._optimizers:
            optimizer.prepare()

    def step(self, lr: float) -> None:
        """Update by each."""
        for optimizer in self._optimizers:
            optimizer.step(lr)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the states of all."""
        state: dict[str, np.ndarray] = {}
        for optimizer in self._optimizers:
            state |= optimizer.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Let each take its own."""
        for optimizer in self._optimizers:
            optimizer.load_state_dict(state)


def boundaries(params: ParamStore, config: OptimConfig) -> dict[int, float] | None:
    """Return where the parameters may be divided among ranks, and the cost of all before; None if anywhere."""
    if any(OPTIMIZERS[config.optimizer][param.role].whole_tensors for param in params):
        matrices = params.matrices()
        costs = [OPTIMIZERS[config.optimizer][matrix.role].cost(matrix) for matrix in matrices]
        offsets = [*(matrix.offset for matrix in matrices), params.size]
        return dict(zip(offsets, accumulate(costs, initial=0.0), strict=True))
    return None


def make_optimizer(
    params: ParamStore,
    config: OptimConfig,
    sharding: Sharding | None = None,
    compiled: Optimizers = MappingProxyType({}),
) -> Optimizer:
    """Return the optimizer of all parameters: a single one, or several side by side; some may be compiled."""
    roles_of: dict[type[OptimizerOfRoles], list[str]] = {}
    for role, optimizer in OPTIMIZERS[config.optimizer].items():
        roles_of.setdefault(compiled.get(optimizer, optimizer), []).append(role)
    optimizers = [optimizer(params, config, sharding, roles) for optimizer, roles in roles_of.items()]
    return optimizers[0] if len(optimizers) == 1 else Several(optimizers)
