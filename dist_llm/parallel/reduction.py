"""From every rank's gradient to the same new parameters on all: the interface, and the plain way.

A training step calls, in this order,

    micro_batch_done   after each micro-batch but the last: the gradients of the step are growing
    ready              along the last backward pass: from this offset on, the gradients are final
    reduce             now `grad`, or this rank's `part` of it, is the whole batch's
    update             with a function that lets the optimizer loose on `part`; then `data` is the same everywhere

and the classes differ in what they do, and when. `AllReduce` is the plain one, and the oracle of all the others.
"""

import time
from collections.abc import Callable

import numpy as np

from dist_llm.config import ParallelConfig
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.wire import CompressedAllReduce


class Reduction:
    """What all ways have in common.

    Parameters
    ----------
    comm : Comm
    data, grad : ndarray of shape (P,)
        The flat buffers of the parameters and of their gradients.
    config : ParallelConfig

    Attributes
    ----------
    part : slice
        Of the flat buffers, what this rank's optimizer updates.
    norm_weight : float
        The ranks' squared norms of `grad[part]`, so weighted, add up to that of the whole gradient.
    synchronous : bool
        Whether every step ends with the same parameters on all ranks, from the gradient of the whole batch.
    whole_micro_batches : bool
        Whether micro-batches must be the same for any number of ranks.
    exposed_s : float
        Seconds of the last step in which this rank waited for communication and did nothing else.
    bytes_sent : float
        By this rank in the last step, by the arithmetic of a bandwidth-optimal algorithm.
    """

    part = slice(None)
    synchronous = True
    whole_micro_batches = False

    def __init__(self, comm: Comm, data: np.ndarray, grad: np.ndarray, config: ParallelConfig) -> None:
        self.comm, self.data, self.grad, self.config = comm, data, grad, config
        self.norm_weight = 1.0 if comm.rank == 0 else 0.0
        self.exposed_s = 0.0
        self.bytes_sent = 0.0

    def begin(self) -> None:
        """Start a step: no gradient yet."""
        self.grad[...] = 0
        self.exposed_s = self.bytes_sent = 0.0

    def micro_batch_done(self) -> None:
        """Take notice that `grad` has grown by a micro-batch that is not the last."""

    def ready(self, offset: int) -> None:
        """Take notice that all gradients of the step from `offset` on are final on this rank."""

    def reduce(self) -> None:
        """Make `grad[part]` the sum over all ranks."""
        raise NotImplementedError

    def update(self, step: Callable[[], None], settle: bool) -> None:
        """Let the optimizer step.

        Parameters
        ----------
        step : callable
            Updates ``data[part]``.
        settle : bool
            Whether the parameters must be the same on all ranks afterwards, whatever the way.
        """
        step()

    def gather_moment(self, moment: np.ndarray) -> np.ndarray | None:
        """Return a moment of the optimizer of all parameters, (P,), on rank 0; collective."""
        return moment

    def scatter_moment(self, whole: np.ndarray | None, moment: np.ndarray) -> None:
        """Fill a moment of this rank's optimizer from that of all parameters, which rank 0 has; collective."""
        if whole is not None:
            moment[...] = whole
        self.comm.broadcast_(moment)

    def state(self, moments: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return, on rank 0, what else a checkpoint must hold for this way to go on; collective."""
        return {}

    def restore(self, state: dict[str, np.ndarray], moments: dict[str, np.ndarray]) -> None:
        """Begin from the parameters as they are now, with the state that rank 0 read, if any; collective."""

    def metrics(self) -> dict[str, float]:
        """Return what the last step's communication was like on this rank."""
        return {"comm_exposed_s": self.exposed_s, "comm_bytes": self.bytes_sent} if self.comm.size > 1 else {}

    def close(self) -> None:
        """End what runs beside the step."""

    def _exposed(self, communicate: Callable[[], None]) -> None:
        start = time.perf_counter()
        communicate()
        self.exposed_s += time.perf_counter() - start


class AllReduce(Reduction):
    """One blocking all-reduce of the whole gradient after the last backward pass."""

    def __init__(self, comm: Comm, data: np.ndarray, grad: np.ndarray, config: ParallelConfig) -> None:
        super().__init__(comm, data, grad, config)
        self._compressed = None
        if config.wire != "float32":
            self._compressed = CompressedAllReduce(comm, grad.size, config.wire, error_feedback=False)

    def reduce(self) -> None:
        """Sum in place."""
        if self._compressed is not None:
            self._compressed.sum_(self.grad, self._exposed)
            self.bytes_sent += self._compressed.bytes_sent
        else:
            self._exposed(lambda: self.comm.all_reduce_(self.grad))
            self.bytes_sent += all_reduce_bytes(self.grad.nbytes, self.comm.size)


def all_reduce_bytes(n_bytes: int, world_size: int) -> float:
    """Return what a rank must send at least for an all-reduce: 2 (p - 1) / p times the array."""
    return 2 * (world_size - 1) / world_size * n_bytes
