"""Local steps: DiLoCo (Douillard et al. 2023, arXiv 2311.08105). Ranks train by themselves and meet every H steps.

Each rank takes H inner steps of its own AdamW on its own share of the data. Then the ranks average by how much their
parameters have changed, take that average for a gradient, and make one outer step of Nesterov momentum with it:

    delta = mean over ranks of (start - parameters)
    momentum = mu momentum + delta
    start = start - outer_lr (delta + mu momentum)

from where all go on together. The gradient of a batch is never summed, so a step sends 1 / H of the bytes, or an
eighth of those with the change in 8 bits and the rest kept for the next round.

A round ends early where a checkpoint or an evaluation is due, so that all ranks have the same parameters there. What
differs between the ranks then are the moments of their AdamWs. A checkpoint holds their mean, with which any way of
reduction and any number of ranks can go on, and beside it each rank's own.
"""

from collections.abc import Callable

import numpy as np

from dist_llm.config import ParallelConfig
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.reduction import Reduction
from dist_llm.parallel.wire import CompressedAllReduce
from dist_llm.shares import consecutive


class LocalSteps(Reduction):
    """Inner steps without communication, outer steps on the averaged change."""

    synchronous = False

    def __init__(self, comm: Comm, data: np.ndarray, grad: np.ndarray, config: ParallelConfig) -> None:
        super().__init__(comm, data, grad, config)
        self.norm_weight = 1 / comm.size  # what is reported is the mean over ranks
        self._sum = CompressedAllReduce(comm, data.size, config.wire, error_feedback=config.wire != "float32")
        self._start = data.copy()
        self._momentum = np.zeros_like(data)
        self._taken = 0

    def reduce(self) -> None:
        """Leave each rank its own gradient."""

    def update(self, step: Callable[[], None], settle: bool) -> None:
        """Take an inner step, and the outer one when it is time."""
        step()
        self._taken += 1
        if settle or self._taken == self.config.local_steps:
            self._outer_step()
            self._taken = 0

    def _outer_step(self) -> None:
        mu, lr = self.config.outer_momentum, self.config.outer_lr
        delta = self._start - self.data
        self._sum.sum_(delta, self._exposed)
        self.bytes_sent += self._sum.bytes_sent
        delta /= self.comm.size
        self._momentum *= mu
        self._momentum += delta
        self._start -= lr * delta
        self._start -= (lr * mu) * self._momentum
        self.data[...] = self._start

    def gather_moment(self, moment: np.ndarray) -> np.ndarray:
        """Return the mean over ranks."""
        mean = moment / self.comm.size
        self.comm.all_reduce_(mean)
        return mean

    def state(self, moments: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outer momentum, and of each rank its moments and remainders, on rank 0."""
        own = {**moments, "remainder": self._sum.remainder, "part_remainder": self._sum.part_remainder}
        gathered = {name: self._gather(array) for name, array in own.items()}
        return {"momentum": self._momentum, **{name: a for name, a in gathered.items() if a is not None and a.size}}

    def restore(self, state: dict[str, np.ndarray], moments: dict[str, np.ndarray]) -> None:
        """Take the outer momentum; and what was each rank's own, if there are as many ranks as then."""
        self._start[...] = self.data
        names = self.comm.gather(sorted(state))[0]
        if "momentum" in names:
            if self.comm.rank == 0:
                self._momentum[...] = state["momentum"]
            self.comm.broadcast_(self._momentum)
        own = {**moments, "remainder": self._sum.remainder, "part_remainder": self._sum.part_remainder}
        for name, array in own.items():
            parts = self._own_parts(array)
            total = parts[-1].stop
            fits = self.comm.gather(name in state and state[name].size == total)[0]
            if fits and total:
                array[...] = self.comm.scatter_parts(state[name].ravel() if self.comm.rank == 0 else None, array, parts)

    def _gather(self, array: np.ndarray) -> np.ndarray | None:
        return self.comm.gather_parts(array, self._own_parts(array))

    def _own_parts(self, array: np.ndarray) -> list[slice]:
        """Return where each rank's array lies when all are joined."""
        return consecutive(self.comm.gather(array.size))
