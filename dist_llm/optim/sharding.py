"""Which shard of the flat buffers an optimizer updates, and where it keeps its state.

An optimizer knows nothing of ranks. It asks a `Sharding` for the arrays of its state, and for joining
them: `Unsharded` does that in one process, and a strategy of `dist_llm.parallel` among ranks.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

Compute = Callable[[int, np.ndarray], None]  # fills the array of an index


class Sharding(Protocol):
    """What an optimizer needs to know about its shard.

    Attributes
    ----------
    shard : slice
        Slice of the flat buffers that it updates.
    """

    shard: slice

    def new_state(self, name: str, size: int, dtype: np.dtype) -> np.ndarray:
        """Return zeros of shape (size,) to keep state of the shard in."""
        ...

    def gather(self, state: np.ndarray) -> np.ndarray | None:
        """Return the state of all shards, joined, on rank 0; collective."""
        ...

    def scatter(self, whole: np.ndarray | None, state: np.ndarray) -> None:
        """Fill the state of this shard from that of all shards, given on rank 0; collective."""
        ...

    def bcast_(self, array: np.ndarray) -> None:
        """Replace an array that is the same for all shards, such as a count of steps, by rank 0's; collective."""
        ...

    def share(
        self, shapes: Sequence[tuple[int, ...]], costs: Sequence[float], compute: Compute, dtype: np.dtype
    ) -> list[np.ndarray]:
        """Return arrays that are costly to compute: each is computed once, where others would compute the same.

        Collective. If it fails, nothing has happened: `compute` changes nothing else.

        Parameters
        ----------
        shapes : sequence of tuple of int
            Of the arrays.
        costs : sequence of float
            What they take, in any unit.
        compute : callable
            ``compute(index, array)`` fills the array of an index, in the same way whoever computes it.
        """
        ...


class Unsharded:
    """The whole buffers, in one process."""

    shard = slice(None)

    def new_state(self, name: str, size: int, dtype: np.dtype) -> np.ndarray:
        """Return zeros."""
        return np.zeros(size, dtype)

    def gather(self, state: np.ndarray) -> np.ndarray | None:
        """Return the state, which is all."""
        return state

    def scatter(self, whole: np.ndarray | None, state: np.ndarray) -> None:
        """Take the whole."""
        state[...] = whole

    def bcast_(self, array: np.ndarray) -> None:
        """Do nothing."""

    def share(
        self, shapes: Sequence[tuple[int, ...]], costs: Sequence[float], compute: Compute, dtype: np.dtype
    ) -> list[np.ndarray]:
        """Compute all."""
        arrays = [np.empty(shape, dtype) for shape in shapes]
        for index, array in enumerate(arrays):
            compute(index, array)
        return arrays
