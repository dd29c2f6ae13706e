"""The ways of reduction by their names in the configuration."""

import numpy as np

from dist_llm.config import ParallelConfig
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.deterministic import DeterministicAllReduce
from dist_llm.parallel.local import LocalSteps
from dist_llm.parallel.overlapped import OverlappedAllReduce
from dist_llm.parallel.reduction import AllReduce, Reduction
from dist_llm.parallel.sharded import ShardedOptimizer

REDUCTIONS: dict[str, type[Reduction]] = {
    "blocking": AllReduce,
    "overlapped": OverlappedAllReduce,
    "deterministic": DeterministicAllReduce,
    "sharded": ShardedOptimizer,
    "local": LocalSteps,
}


def choose_reduction(comm: Comm, data: np.ndarray, grad: np.ndarray, config: ParallelConfig) -> Reduction:
    """Return the reduction that the configuration names."""
    return REDUCTIONS[config.reduction](comm, data, grad, config)
