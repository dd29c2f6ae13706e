"""The plain strategy: one blocking all-reduce of the whole gradient after the last backward pass."""

from dist_llm.config import ParallelConfig
from dist_llm.parallel.compression import CompressedAllReduce, encoded_bytes
from dist_llm.parallel.strategy import Strategy, Traffic
from dist_llm.parallel.topology import Topology


class Blocking(Strategy):
    """One all-reduce, of float32 or, compressed, of fewer bits."""

    def _setup(self) -> None:
        self._allreduce_ = self.comm.allreduce_
        if self.config.reduce_dtype != "float32":
            compressed = CompressedAllReduce(self.comm, self.grad.size, self.config.reduce_dtype, error_feedback=False)
            self._allreduce_ = compressed.sum_

    def reduce(self) -> None:
        """Sum in place."""
        self._allreduce_(self.grad)

    @classmethod
    def traffic(cls, config: ParallelConfig, n_parameters: int, topology: Topology) -> Traffic:
        """Return the all-reduce, or what a compressed one consists of."""
        if config.reduce_dtype == "float32":
            return super().traffic(config, n_parameters, topology)
        return Traffic("all-to-all, all-gather", encoded_bytes(n_parameters, config.reduce_dtype))
