"""From every rank's gradient to the same new parameters on all: the interface of the strategies.

A training step calls, in this order,

    begin              no gradient yet
    micro_batch_done   after each micro-batch but the last: the gradients of the step are growing
    on_grad_ready      along the last backward pass: every gradient at or after an offset is final
    reduce             makes `grad[shard]` the whole batch's
    update             calls the optimizer, which updates `data[shard]`; then `data` is the same everywhere

and the strategies differ in what they do, and when. `blocking.Blocking` is the plain one, and the oracle of the others.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dist_llm.config import ParallelConfig
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.topology import Topology
from dist_llm.partition import consecutive, deal, sizes

State = dict[str, np.ndarray]
Compute = Callable[[int, np.ndarray], None]


@dataclass(frozen=True)
class Traffic:
    """What a strategy sends in a step, for models of its cost.

    Attributes
    ----------
    operation : str
        ``all-reduce``; ``nonblocking all-reduce``; ``reduce-scatter, all-gather``; or ``all-to-all, all-gather``.
    message_bytes : int
        Bytes of the numbers that one operation sums up.
    messages : int
        Operations in a step.
    every_steps : int
        Steps from one step with messages to the next.
    overlaps : bool
        Whether they go on beside the backward pass.
    """

    operation: str
    message_bytes: int
    messages: int = 1
    every_steps: int = 1
    overlaps: bool = False


class Strategy:
    """Base of the strategies; making one is collective.

    Parameters
    ----------
    comm : Comm
    data, grad : ndarray of shape (P,)
        The flat buffers of the parameters and of their gradients.
    config : ParallelConfig
    boundaries : mapping of int to float, optional
        Offsets at which the optimizer allows the buffers to be cut, each with the cost of updating all before it;
        anywhere unless told.

    Attributes
    ----------
    shard : slice
        Slice of the flat buffers that this rank's optimizer updates.
    norm_weight : float
        The ranks' squared norms of `grad[shard]`, so weighted, add up to that of the whole gradient.
    synchronous : bool
        Whether every step ends with the same parameters on all ranks, from the gradient of the whole batch.
    replicated : bool
        Whether every rank has the whole state of the optimizer and of the strategy, so that any may be lost.
    deterministic : bool
        Whether the result is the same in every bit for any number of ranks. Micro-batches must then be the same
        whoever computes them, and BLAS must have as many threads everywhere.
    buckets : str
        How it divides the gradient into messages, in words, where it does; else "".
    blocking_s : float
        Seconds of a blocking all-reduce of the gradient, where a strategy that hides it has measured that; else 0.
    """

    shard = slice(None)
    synchronous = True
    replicated = True
    deterministic = False
    buckets = ""
    blocking_s = 0.0

    def __init__(
        self,
        comm: Comm,
        data: np.ndarray,
        grad: np.ndarray,
        config: ParallelConfig,
        boundaries: Mapping[int, float] | None = None,
    ) -> None:
        self.data, self.grad = data, grad
        self.config, self.boundaries = config, boundaries
        self._optimizer_state: State = {}
        self._join(comm)

    def _join(self, comm: Comm) -> None:
        self.comm = comm
        self.norm_weight = 1.0 if comm.rank == 0 else 0.0
        self._setup()

    def _setup(self) -> None:
        """Make what this strategy needs; collective."""

    def rejoin(self, comm: Comm) -> None:
        """Go on with the ranks of another communicator, where the state is `replicated`; collective among them."""
        assert self.replicated
        self.close()
        self._join(comm)

    def begin(self) -> None:
        """Start a step."""
        self.grad[...] = 0

    def micro_batch_done(self) -> None:
        """Note that the gradient of another micro-batch, not the last, has been added to `grad`."""

    def on_grad_ready(self, offset: int) -> None:
        """Note that every gradient of this step at or after `offset` is final on this rank."""

    def reduce(self) -> None:
        """Make `grad[shard]` the sum over all ranks."""
        raise NotImplementedError

    def update(self, optimizer_step: Callable[[], None], sync: bool) -> None:
        """Let the optimizer step.

        Parameters
        ----------
        optimizer_step : callable
            Updates ``data[shard]``.
        sync : bool
            Whether the parameters must be the same on all ranks afterwards, whatever the strategy.
        """
        optimizer_step()

    def new_state(self, name: str, size: int, dtype: np.dtype) -> np.ndarray:
        """Return zeros of shape (size,) for an optimizer to keep its state of this rank's shard in."""
        assert name not in self._optimizer_state, name
        self._optimizer_state[name] = np.zeros(size, dtype)
        return self._optimizer_state[name]

    def gather(self, state: np.ndarray) -> np.ndarray | None:
        """Return, on rank 0, the arrays of all ranks joined, given this rank's array of `new_state`; collective."""
        return state if self.comm.rank == 0 else None

    def scatter(self, whole: np.ndarray | None, state: np.ndarray) -> None:
        """Fill an array of `new_state` from what `gather` once returned, given on rank 0; collective."""
        if whole is not None:
            state[...] = whole
        self.comm.bcast_(state)

    def bcast_(self, array: np.ndarray) -> None:
        """Replace an array that is the same on all ranks, such as a count of steps, by rank 0's; collective."""
        self.comm.bcast_(array)

    def share(
        self, shapes: Sequence[tuple[int, ...]], costs: Sequence[float], compute: Compute, dtype: np.dtype
    ) -> list[np.ndarray]:
        """Return arrays that are costly to compute, each by one rank alone if all would compute the same; collective.

        Parameters
        ----------
        shapes : sequence of tuple of int
            Of the arrays.
        costs : sequence of float
            What they take, in any unit.
        compute : callable
            ``compute(index, array)`` fills the array of an index, and changes nothing else.
        """
        shares = self.replicated  # or every rank has something else to compute
        hands = deal(costs, self.comm.size if shares else 1)
        own = hands[self.comm.rank if shares else 0]
        # One behind the other, those of a rank side by side.
        order = [item for hand in hands for item in hand]
        slices = consecutive(math.prod(shapes[item]) for item in order)
        of_all = np.empty(sum(sizes(slices)), dtype)
        arrays = {item: of_all[part].reshape(shapes[item]) for item, part in zip(order, slices, strict=True)}
        for item in own:
            compute(item, arrays[item])
        if shares:
            self.comm.allgatherv_(of_all, consecutive(sum(arrays[item].size for item in hand) for hand in hands))
            self.comm.agree()
        return [arrays[item] for item in range(len(shapes))]

    def mean_(self, array: np.ndarray) -> None:
        """Replace an array that has come of the weights of all steps by its mean over the ranks; collective."""

    def state_dict(self) -> State:
        """Return, on rank 0, what the strategy itself needs to go on; collective."""
        return {}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state_dict` returned, given on rank 0; collective."""

    def close(self) -> None:
        """End what runs beside the step."""

    @classmethod
    def traffic(cls, config: ParallelConfig, n_parameters: int, topology: Topology) -> Traffic:
        """Return what a step of a job with such a topology sends for so many parameters of four bytes."""
        return Traffic("all-reduce", 4 * n_parameters)

    def _joined(self, array: np.ndarray) -> list[slice]:
        """Return the slice of each rank's array in all of them joined; collective."""
        return consecutive(self.comm.allgather(array.size))
