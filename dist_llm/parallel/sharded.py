"""Sharded optimizer: ZeRO stage 1 (Rajbhandari et al. 2020, arXiv 1910.02054).

Each rank keeps the optimizer's state of its shard of the parameters only: it receives the sum of that shard's
gradients, updates that shard, and sends it to all. An all-reduce is a reduce-scatter followed by an all-gather; here
the optimizer stands between the two, so all ranks together send no byte more. Each rank's state is 1 / ranks of the
whole with AdamW; with Muon, whose shards end where matrices do and are about equally much work, so much on average.
"""

from collections.abc import Callable

import numpy as np

from dist_llm.config import ParallelConfig
from dist_llm.parallel.strategy import Strategy, Traffic
from dist_llm.parallel.topology import Topology
from dist_llm.partition import partition


class Sharded(Strategy):
    """Reduce-scatter of gradients, all-gather of parameters."""

    replicated = False

    def _setup(self) -> None:
        self._shards = partition(self.grad.size, self.comm.size, self.boundaries)
        self.shard = self._shards[self.comm.rank]
        self.norm_weight = 1.0  # the shards do not overlap

    def reduce(self) -> None:
        """Sum this rank's shard."""
        self.grad[self.shard] = self.comm.reduce_scatter(self.grad, self._shards)

    def update(self, optimizer_step: Callable[[], None], sync: bool) -> None:
        """Update this rank's shard, and gather the others'."""
        optimizer_step()
        self.comm.allgatherv_(self.data, self._shards)

    def gather(self, state: np.ndarray) -> np.ndarray | None:
        """Join the shards on rank 0."""
        return self.comm.gatherv(state, self._joined(state))

    def scatter(self, whole: np.ndarray | None, state: np.ndarray) -> None:
        """Send each rank its shard."""
        self.comm.scatterv(whole, state, self._joined(state))

    @classmethod
    def traffic(cls, config: ParallelConfig, n_parameters: int, topology: Topology) -> Traffic:
        """Return the two halves of an all-reduce."""
        return Traffic("reduce-scatter, all-gather", 4 * n_parameters)
