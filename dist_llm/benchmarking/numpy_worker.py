"""The training step of this project, by the trainer itself, on tokens drawn at random."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dist_llm.benchmarking.contestants import Contestant
from dist_llm.benchmarking.phases import Phases
from dist_llm.config import Config
from dist_llm.data.loader import Loader
from dist_llm.model.llama import Llama
from dist_llm.optim.adamw import AdamW
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.choice import choose_reduction
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.seeding import generator
from dist_llm.shares import share
from dist_llm.training.open_everywhere import TokensInMemory
from dist_llm.training.trainer import Trainer

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
        # All rounds of local steps of the benchmark's length, and nothing but them.
        settings: dict[str, Any] = {"reduction": way, "wire": wire or "float32", "check_interval": 0}
        config = config.replace(
            {"parallel": settings, "train": {"max_steps": 1 << 30, "eval_interval": 0, "checkpoint_interval": 0}}
        )
    keep_freed_memory()
    placement = place(comm, contestant.threads)
    assert config.model.vocab_size is not None
    model = Llama(config.model, config.model.vocab_size)
    reduction = choose_reduction(comm, model.params.data, model.params.grad, config.parallel)
    optimizer = AdamW(model.params, config.optim, reduction.part)
    if comm.rank == 0:
        model.params.initialize(generator(config.train.seed, "weights"))
    # The trainer's own step, so that what is measured is what trains; nothing of it needs a text or a run folder.
    none: Any = None
    nowhere = Path(os.devnull)
    loader = batches(config)
    trainer = Trainer(config, comm, model, optimizer, reduction, none, loader, none, nowhere, nowhere)
    phases = Phases(model, optimizer, loader, reduction)
    rows = share(config.train.batch_size, comm.rank, comm.size)
    tokens = (rows.stop - rows.start) * config.model.max_seq_len

    communication = {"exposed_s": 0.0, "bytes_sent": 0.0}

    def step() -> None:
        trainer._train_step(stop_received=False)
        communication["exposed_s"] += reduction.exposed_s
        communication["bytes_sent"] += reduction.bytes_sent

    def turn() -> dict[str, Any]:
        phases.reset()
        communication.update(exposed_s=0.0, bytes_sent=0.0)
        result = timed(step, steps, tokens)
        return result | {"phases": phases.of(result["seconds"]), "steps": steps, "communication": dict(communication)}

    timed(step, WARM_UP_STEPS)
    each = " each" * (comm.size > 1)
    return (
        f"micro-batches of {config.train.micro_batch_size}, {placement.blas}, {placement.threads} BLAS "
        f"thread{'s' * (placement.threads > 1)}{each}"
    ), turn
