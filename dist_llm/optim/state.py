"""A part of an optimizer's state: some numbers of each parameter it updates, of a shard in one flat array."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dist_llm.errors import UserError
from dist_llm.model.params import Param
from dist_llm.optim.sharding import Sharding
from dist_llm.partition import consecutive


def _own_shape(param: Param) -> tuple[int, ...]:
    return param.shape


class ShardedState:
    """The numbers, zero at first.

    Parameters
    ----------
    name : str
    params : sequence of Param
        Those of all shards.
    size : int
        How many numbers this shard has.
    dtype : dtype
    sharding : Sharding
    shape_of : callable, optional
        Returns the shape of a parameter's numbers; by default that of the parameter.

    Attributes
    ----------
    own : ndarray of shape (size,)
        Those of this shard, in the order of its parameters.
    """

    def __init__(
        self,
        name: str,
        params: Sequence[Param],
        size: int,
        dtype: np.dtype,
        sharding: Sharding,
        shape_of: Callable[[Param], tuple[int, ...]] = _own_shape,
    ) -> None:
        self._sharding = sharding
        self._shapes = {f"{name}.{param.name}": shape_of(param) for param in params}
        self.own = sharding.new_state(name, size, dtype)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return those of all shards, by name, on rank 0 and nothing on the others; collective."""
        whole = self._sharding.gather(self.own)
        return {} if whole is None else dict(zip(self._shapes, split(whole, [*self._shapes.values()]), strict=True))

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state_dict` returned, given on rank 0 and empty on the others; collective.

        Raises
        ------
        UserError
            It is the state of another model, or of another optimizer.
        """
        whole = np.concatenate([self._checked(name, state).ravel() for name in self._shapes]) if state else None
        self._sharding.scatter(whole, self.own)

    def _checked(self, name: str, state: Mapping[str, np.ndarray]) -> np.ndarray:
        array = state.get(name)
        if array is None or (array.shape, array.dtype) != (self._shapes[name], self.own.dtype):
            is_ = "missing" if array is None else f"{array.dtype} {array.shape}"
            raise UserError(
                f"the optimizer's state is that of another model or optimizer: {name} is {is_}, not {self.own.dtype} "
                f"{self._shapes[name]}"
            )
        return array


def split(flat: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Return views of arrays of these shapes that lie one behind the other."""
    return [flat[part].reshape(shape) for part, shape in zip(consecutive(map(math.prod, shapes)), shapes, strict=True)]
