"""Local steps: DiLoCo (Douillard et al. 2023, arXiv 2311.08105). Ranks train by themselves and meet every H steps.

Each rank takes H inner steps of its own AdamW on its own shard of the data. Then the ranks average by how much their
parameters have changed, take that average for a gradient, and make one outer step of Nesterov momentum with it:

    delta = mean over ranks of (start - parameters)
    momentum = mu momentum + delta
    start = start - outer_lr (delta + mu momentum)

from where all go on together. The gradient of a batch is never summed, so a step sends 1 / H of the bytes, or a
quarter or an eighth of those with the change in 8 or 4 bits and the rest kept for the next round.

A round ends early where a checkpoint or an evaluation is due, so that all ranks have the same parameters there. What
differs between the ranks then are the moments of their AdamWs. A checkpoint holds their mean, with which any
strategy and any number of ranks can go on, and beside it each rank's own.
"""

from collections.abc import Callable, Mapping

import numpy as np

from dist_llm.config import ParallelConfig
from dist_llm.parallel.compression import CompressedAllReduce, encoded_bytes
from dist_llm.parallel.strategy import State, Strategy, Traffic
from dist_llm.parallel.topology import Topology


class LocalSteps(Strategy):
    """Inner steps without communication, outer steps on the averaged change."""

    synchronous = False
    replicated = False

    def _setup(self) -> None:
        self.norm_weight = 1 / self.comm.size  # what is reported is the mean over ranks
        compressed = self.config.reduce_dtype != "float32"
        self._sum = CompressedAllReduce(self.comm, self.data.size, self.config.reduce_dtype, error_feedback=compressed)
        self._start = np.empty_like(self.data)
        self._momentum = np.zeros_like(self.data)
        self._taken = 0

    def begin(self) -> None:
        """Start a step, and with the first one a round."""
        super().begin()
        if self._taken == 0:
            self._start[...] = self.data

    def reduce(self) -> None:
        """Leave each rank its own gradient."""

    def update(self, optimizer_step: Callable[[], None], sync: bool) -> None:
        """Take an inner step, and the outer one when it is time."""
        optimizer_step()
        self._taken += 1
        if sync or self._taken == self.config.local_steps:
            self._outer_step()
            self._taken = 0

    def _outer_step(self) -> None:
        mu, lr = self.config.outer_momentum, self.config.outer_lr
        delta = self._start - self.data
        self._sum.sum_(delta)
        delta /= self.comm.size
        self._momentum *= mu
        self._momentum += delta
        self._start -= lr * delta
        self._start -= (lr * mu) * self._momentum
        self.data[...] = self._start

    def gather(self, state: np.ndarray) -> np.ndarray | None:
        """Return the mean over ranks, on rank 0."""
        mean = state / self.comm.size
        self.comm.allreduce_(mean)
        return mean if self.comm.rank == 0 else None

    def mean_(self, array: np.ndarray) -> None:
        """Take the mean: the ranks' weights have been others between their meetings."""
        self.comm.allreduce_(array)
        array /= self.comm.size

    @property
    def _own(self) -> State:
        """What differs between the ranks."""
        remainders = {"remainder": self._sum.remainder, "shard_remainder": self._sum.shard_remainder}
        return self._optimizer_state | remainders

    def state_dict(self) -> State:
        """Return the outer momentum, and what each rank has for itself, joined."""
        own = {name: self.comm.gatherv(array, self._joined(array)) for name, array in self._own.items()}
        if self.comm.rank > 0:
            return {}
        return {"momentum": self._momentum} | {
            name: array for name, array in own.items() if array is not None and array.size
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the outer momentum; and what was each rank's own, if there are as many ranks as then."""
        state = {name.replace("part_", "shard_"): array for name, array in state.items()}  # as version 0.1 wrote it
        if self.comm.on_rank_0(lambda: "momentum" in state):
            if self.comm.rank == 0:
                self._momentum[...] = state["momentum"]
            self.comm.bcast_(self._momentum)
        for name, array in self._own.items():
            shards = self._joined(array)
            total = shards[-1].stop
            fits = self.comm.allgather(name in state and state[name].size == total)[0]
            if fits and total:
                self.comm.scatterv(state[name].ravel() if self.comm.rank == 0 else None, array, shards)

    @classmethod
    def traffic(cls, config: ParallelConfig, n_parameters: int, topology: Topology) -> Traffic:
        """Return the averaging of a round."""
        encoded = encoded_bytes(n_parameters, config.reduce_dtype)
        return Traffic("all-to-all, all-gather", encoded, every_steps=config.local_steps)
