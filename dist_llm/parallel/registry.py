"""The strategies by their names in the configuration, a line each.

Only data stands here, so that the configuration can name them without importing them.
"""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dist_llm.config import ParallelConfig
    from dist_llm.parallel.comm import Comm
    from dist_llm.parallel.strategy import Strategy


@dataclass(frozen=True)
class Entry:
    """A strategy that can be chosen.

    Attributes
    ----------
    path : str
        ``module:class``, below `dist_llm.parallel`.
    summary : str
        Description in a few words.
    reduce_dtypes : tuple of str
        The number formats it can send.
    """

    path: str
    summary: str
    reduce_dtypes: tuple[str, ...] = ("float32",)

    def load(self) -> "type[Strategy]":
        """Import the class."""
        module, _, name = self.path.partition(":")
        strategy: type[Strategy] = getattr(importlib.import_module(f"dist_llm.parallel.{module}"), name)
        return strategy


STRATEGIES = {
    "blocking": Entry(
        "blocking:Blocking", "one all-reduce after the backward pass", ("float32", "float16", "bfloat16")
    ),
    "overlapped": Entry("overlapped:Overlapped", "all-reduces of buckets beside the backward pass"),
    "deterministic": Entry("deterministic:Deterministic", "the same bits for any number of ranks"),
    "sharded": Entry("sharded:Sharded", "each rank a shard of the optimizer (ZeRO-1)"),
    "local": Entry(
        "local:LocalSteps",
        "ranks by themselves, averaging every local_steps (DiLoCo)",
        ("float32", "float16", "bfloat16", "int8", "int4"),
    ),
}
# Which strategies can send numbers of which format.
STRATEGIES_OF_DTYPE = {
    dtype: [name for name, strategy in STRATEGIES.items() if dtype in strategy.reduce_dtypes]
    for dtype in dict.fromkeys(dtype for strategy in STRATEGIES.values() for dtype in strategy.reduce_dtypes)
}


def make_strategy(
    comm: "Comm",
    data: np.ndarray,
    grad: np.ndarray,
    config: "ParallelConfig",
    boundaries: "Mapping[int, float] | None" = None,
) -> "Strategy":
    """Return the strategy that the configuration names; its parameters are those of `Strategy`."""
    return STRATEGIES[config.strategy].load()(comm, data, grad, config, boundaries)
