"""What a process of a contestant is given to do, and what it answers at each of its turns."""

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from dist_llm.config import Config
from dist_llm.data.loader import Loader, TokensInMemory
from dist_llm.measuring.flops import flops_per_token
from dist_llm.measuring.peak import Peak
from dist_llm.model.llama import Llama
from dist_llm.parallel.comm import Comm, SerialComm
from dist_llm.seeding import generator

WARM_UP_STEPS = 2
LONG_STEP_FLOPS = 1e11  # a second of a core

Way = TypeVar("Way")


@dataclass(frozen=True)
class Job:
    """The work of one process."""

    config: Config  # with a model.vocab_size
    steps: int  # training steps in a turn
    processes: int
    threads: int  # in each process
    rendezvous: str  # a file that does not exist yet, by which the processes can find each other
    rank: int = 0  # which of the processes this is
    comm: Comm = field(default_factory=SerialComm)  # between them, if mpirun has started them


@dataclass(frozen=True)
class Answer:
    """What a process measured in a turn."""

    seconds: float = 0.0
    amount: int = 0  # what was done in them: tokens, bytes
    steps: int = 1  # training steps taken
    phases: dict[str, float] | None = None  # seconds of each phase of a training step, where there are clocks
    exposed_s: float | None = None  # of the communication of all steps, where it is counted
    bytes_sent: float | None = None  # likewise
    peak: Peak | None = None  # of the machine, if that is what is measured
    peak_memory_bytes: int = 0  # of the process so far


# How a contestant works once it is warm, in words, and the function that takes a turn.
Warm = tuple[str, Callable[[], Answer]]


def timed(act: Callable[[], object], times: int, amount: int = 0) -> Answer:
    """Do something several times, each of which does `amount`; return what was done, and in how many seconds."""
    start = time.perf_counter()
    for _ in range(times):
        act()
    return Answer(time.perf_counter() - start, amount * times, times)


def tries(config: Config) -> int:
    """Return how often each way to take a step is tried: the same in all processes, which take it together."""
    tokens = config.train.batch_size * config.model.max_seq_len
    return 1 if tokens * flops_per_token(config.model, config.vocab_size) > LONG_STEP_FLOPS else 3


def fastest(ways: Sequence[Way], act: Callable[[Way], object], tries: int = 3) -> Way:
    """Let several ways to do something take turns, and return the one with the fastest turn."""
    if len(ways) == 1:
        return ways[0]
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(1 + tries):
        for way, record in zip(ways, seconds, strict=True):
            record.append(timed(lambda way=way: act(way), 1).seconds)  # type: ignore[misc]
    # The first time, something may be compiled.
    return ways[min(range(len(ways)), key=lambda i: min(seconds[i][1:]))]


def forget_memory() -> None:
    """Give back what is free, and begin anew to look for the peak: the ways that were tried and not chosen don't count.

    Where the system knows no such thing (glibc and Linux do), they do.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def batches(config: Config) -> Loader:
    """Return the batches that every contestant trains on: random tokens, as no step's cost depends on them."""
    c, t = config.model, config.train
    n = 4 * t.batch_size * c.max_seq_len + 1
    tokens = generator(t.seed, "benchmark").integers(config.vocab_size, size=n, dtype=np.int32)
    return Loader.of(TokensInMemory(tokens, "random", 0), config)


def initial_model(config: Config, model_class: type[Llama] = Llama) -> Llama:
    """Return our model with its initial weights."""
    model = model_class(config.model, config.vocab_size)
    model.params.initialize(generator(config.train.seed, "weights"))
    return model
