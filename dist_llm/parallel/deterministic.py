"""A sum of gradients that is bit for bit the same for any number of ranks.

Floating-point addition is not associative: (a + b) + c and a + (b + c) differ in the last bit, and after some hundred
steps in all of them. Addition of integers is. So each micro-batch's gradient is rounded to a multiple of 2^-40 and
added up as 64-bit integers, here and by MPI, in whatever order any library likes.

A micro-batch is the unit: what is computed of it does not depend on who computes it. The micro-batches are therefore
the same for any number of ranks, whole ones are shared out, and BLAS runs with one thread unless told, since it may
split a sum among threads.

Resolution and range: gradients of the mean loss are far below 1, and differences of 2^-40 = 1e-12 are far below what
counts beside AdamW's eps of 1e-8. Room is for sums up to 2^23 = 8e6; what is larger is found, not wrapped around.
"""

import math

import numpy as np

from dist_llm.config import ParallelConfig
from dist_llm.errors import RunError
from dist_llm.parallel.strategy import Strategy, Traffic
from dist_llm.parallel.topology import Topology

FRACTION_BITS = 40
LIMIT = 2.0 ** (63 - FRACTION_BITS)
CHUNK = 1 << 14  # elements converted at once: they stay in the cache


class Deterministic(Strategy):
    """Fixed-point sums over micro-batches and ranks."""

    deterministic = True

    def _setup(self) -> None:
        self._sum = np.zeros(self.grad.size, np.int64)
        self._largest = 0.0  # sum of the largest magnitudes of all micro-batches: a bound of every sum
        self._finite = True

    def begin(self) -> None:
        """Start a step."""
        super().begin()
        self._sum[...] = 0
        self._largest = 0.0

    def micro_batch_done(self) -> None:
        """Add the micro-batch to the sum, and clear the gradient for the next one."""
        scaled = np.empty(CHUNK, np.float64)
        largest = 0.0
        for chunk in self._chunks():
            grad, part = self.grad[chunk], scaled[: chunk.stop - chunk.start]
            magnitude = float(np.abs(grad, out=part).max())
            if magnitude < LIMIT:
                np.multiply(grad, 2.0**FRACTION_BITS, out=part)
                self._sum[chunk] += np.rint(part, out=part).astype(np.int64)
            # What is not a number is not below the limit, and no number is above infinity.
            largest = max(largest, magnitude if magnitude < math.inf else math.inf)
            grad[...] = 0
        self._largest += largest

    def reduce(self) -> None:
        """Add up the integers of all ranks, and turn the sum back into floating point."""
        self.micro_batch_done()
        self._allreduce()
        for chunk in self._chunks():
            np.multiply(self._sum[chunk], 2.0**-FRACTION_BITS, out=self.grad[chunk], casting="unsafe")
        if not self._finite:
            self.grad[...] = np.nan  # as an ordinary sum would have it

    def _allreduce(self) -> None:
        bound = np.array([self._largest])
        self.comm.allreduce_(bound)
        if LIMIT <= bound[0] < math.inf:
            raise RunError(
                f"a gradient is too large for parallel.strategy=deterministic: up to {bound[0]:.3g}, and there is "
                f"room for {LIMIT:.3g}; lower --optim.lr or raise --optim.warmup_steps",
                agreed=True,
            )
        self.comm.allreduce_(self._sum)
        self._finite = bound[0] < math.inf

    @classmethod
    def traffic(cls, config: ParallelConfig, n_parameters: int, topology: Topology) -> Traffic:
        """Return the all-reduce of 64-bit integers."""
        return Traffic("all-reduce", 8 * n_parameters)

    def _chunks(self) -> list[slice]:
        size = self.grad.size
        return [slice(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK)]
