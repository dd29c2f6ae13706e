"""Sharded optimizer: ZeRO stage 1 (Rajbhandari et al. 2020, arXiv 1910.02054).

Each rank needs the moments of its share of the parameters only: it receives the sum of that share's gradients, updates
that share, and sends it to all. An all-reduce is a reduce-scatter followed by an all-gather; here the optimizer stands
between the two, so no byte more is sent, and each rank's moments are 1 / ranks of the whole.
"""

from collections.abc import Callable

import numpy as np

from dist_llm.config import ParallelConfig
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.reduction import Reduction, all_reduce_bytes
from dist_llm.shares import shares


class ShardedOptimizer(Reduction):
    """Reduce-scatter of gradients, all-gather of parameters."""

    def __init__(self, comm: Comm, data: np.ndarray, grad: np.ndarray, config: ParallelConfig) -> None:
        super().__init__(comm, data, grad, config)
        self._parts = shares(grad.size, comm.size)
        self.part = self._parts[comm.rank]
        self.norm_weight = 1.0  # the parts do not overlap

    def reduce(self) -> None:
        """Sum this rank's part."""
        self._exposed(self._reduce_scatter)

    def _reduce_scatter(self) -> None:
        self.grad[self.part] = self.comm.reduce_scatter(self.grad, self._parts)

    def gather_moment(self, moment: np.ndarray) -> np.ndarray | None:
        """Join the parts on rank 0."""
        return self.comm.gather_parts(moment, self._parts)

    def scatter_moment(self, whole: np.ndarray | None, moment: np.ndarray) -> None:
        """Send each rank its part."""
        moment[...] = self.comm.scatter_parts(whole, moment, self._parts)

    def update(self, step: Callable[[], None], settle: bool) -> None:
        """Update this rank's part, and gather the others'."""
        step()
        self._exposed(lambda: self.comm.all_gather_(self.data, self._parts))
        self.bytes_sent += all_reduce_bytes(self.grad.nbytes, self.comm.size)
