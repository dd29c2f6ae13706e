"""The training step of this project, by the trainer itself, on tokens drawn at random."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dist_llm.benchmarking.contestants import Contestant
from dist_llm.benchmarking.training_step import TrainingStep
from dist_llm.config import Config
from dist_llm.data.loader import Loader
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.seeding import generator
from dist_llm.shares import share
from dist_llm.training.open_everywhere import TokensInMemory

WARM_UP_STEPS = 2


def batches(config: Config) -> Loader:
    """Return the batches that every contestant trains on: random tokens, as no step's cost depends on them."""
    c, t = config.model, config.train
    assert c.vocab_size is not None
    n = 4 * t.batch_size * c.max_seq_len + 1
    tokens = generator(t.seed, "benchmark").integers(c.vocab_size, size=n, dtype=np.int32)
    return Loader(TokensInMemory(tokens, "random", 0), t.batch_size, c.max_seq_len, t.seed)


def timed(step: Callable[[], object], steps: int, amount: int = 0) -> dict[str, Any]:
    """Take so many steps, each of which does `amount`; return what was done, and in how many seconds."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return {"seconds": time.perf_counter() - start, "amount": amount * steps}


def prepare(contestant: Contestant, config: Config, steps: int, comm: Comm) -> tuple[str, Callable[[], dict[str, Any]]]:
    """Build model, optimizer and trainer, and warm them up.

    Returns
    -------
    setup : str
        How it works.
    turn : callable
        Takes `steps` steps and returns the seconds, the tokens of this rank, and the seconds of each phase.
    """
    if contestant.task == "reduction":
        way, _, wire = contestant.variant.partition(" ")
        config = config.replace({"parallel": {"reduction": way, "wire": wire or "float32"}})
    keep_freed_memory()
    placement = place(comm, contestant.threads)
    step = TrainingStep(config, comm, batches(config))
    rows = share(config.train.batch_size, comm.rank, comm.size)
    tokens = (rows.stop - rows.start) * config.model.max_seq_len

    def turn() -> dict[str, Any]:
        step.reset()
        result = timed(step.take, steps, tokens)
        communication = {"exposed_s": step.exposed_s, "bytes_sent": step.bytes_sent}
        return result | {
            "phases": step.phases.of(result["seconds"]),
            "steps": steps,
            "communication": communication,
        }

    timed(step.take, WARM_UP_STEPS)
    each = " each" * (comm.size > 1)
    return (
        f"micro-batches of {config.train.micro_batch_size}, {placement.blas}, {placement.threads} BLAS "
        f"thread{'s' * (placement.threads > 1)}{each}"
    ), turn
