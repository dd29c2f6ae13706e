"""For pictures of how long steps take: steps on random tokens."""

import time
from collections.abc import Callable

import numpy as np

from dist_llm import Config, Loader, TrainStep
from dist_llm.data.loader import TokensInMemory
from dist_llm.parallel.comm import Comm


def random_step(config: Config, batch_size: int, comm: Comm) -> TrainStep:
    """Return a step with so many sequences in a batch."""
    config = config.replace({"train": {"batch_size": batch_size}})
    numbers = np.random.default_rng(1).integers(config.vocab_size, size=20_000, dtype=np.int32)
    return TrainStep(config, Loader.of(TokensInMemory(numbers, "random", 1), config), comm)


def timed(step: Callable[[], object]) -> float:
    """Return the seconds of a step."""
    start_s = time.perf_counter()
    step()
    return time.perf_counter() - start_s
