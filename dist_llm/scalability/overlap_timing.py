"""A step's reductions and a backward pass beside each other: measured, with the model and the strategy that train."""

import time
from collections.abc import Callable, Iterable
from statistics import fmean
from typing import Any, cast

import numpy as np

from dist_llm.config import Config
from dist_llm.fast.selection import layers_of
from dist_llm.fast.threads import use_threads
from dist_llm.model.llama import Llama
from dist_llm.model.micro_batch import micro_batch_size
from dist_llm.parallel.comm import Comm, Pending
from dist_llm.parallel.registry import make_strategy
from dist_llm.scalability.overlap import Beside
from dist_llm.seeding import generator

WARM_UP, TIMES = 2, 9
# All reductions end at about the same time; the rank that comes last waits for nobody.
OVER_RANKS: tuple[Callable[[Iterable[float]], float], ...] = (max, min, fmean, fmean, max)


def measure_beside(comm: Comm, config: Config) -> Beside:
    """Measure both alone and together, in turns, on all ranks at once; collective.

    The pass is that of a micro-batch of random tokens. What is reduced is a buffer as large as its gradient, all of it
    final from the beginning, so that the two are under way together for as long as can be.
    """
    use_threads(1)
    model = Llama(config.model, config.vocab_size, layers=layers_of(config.model.precision))
    model.params.initialize(generator(config.train.seed, "weights"))
    shape = (min(micro_batch_size(config), -(-config.train.batch_size // comm.size)), config.model.max_seq_len)
    tokens = generator(config.train.seed, "tokens").integers(0, config.vocab_size, shape)
    parameters, gradient = np.zeros((2, model.params.size), np.float32)
    noting = _Noting(comm)
    strategy = make_strategy(cast(Comm, noting), parameters, gradient, config.parallel)
    marks: list[tuple[int, float]] = []

    def turn() -> list[float]:
        """Return T, R, W, W' and E, in the order of `Beside`."""
        strategy.begin()
        start_s = _together(comm)
        strategy.reduce()
        alone_s = time.perf_counter() - start_s

        _, cache = model.loss(tokens, tokens)
        marks.clear()
        start_s = _together(comm)
        model.loss_backward(1.0, cache, lambda offset: marks.append((offset, time.perf_counter() - start_s)))
        backward_s = time.perf_counter() - start_s
        del cache

        _, cache = model.loss(tokens, tokens)
        strategy.begin()
        start_s = _together(comm)
        strategy.on_grad_ready(0)
        model.loss_backward(1.0, cache)
        end_s = time.perf_counter()
        strategy.reduce()
        left_s = time.perf_counter() - end_s
        both_s = min(noting.ended_s, end_s) - start_s
        of_ranks = zip(*comm.allgather((alone_s, left_s, backward_s, end_s - start_s, both_s)), strict=True)
        return [of(times) for of, times in zip(OVER_RANKS, of_ranks, strict=True)]

    turns: list[list[float]] = []
    passed: list[list[float]] = []
    for _ in range(WARM_UP + TIMES):
        turns.append(turn())
        passed.append([seconds / marks[-1][1] for _, seconds in marks])
    with comm.counting() as counts:
        strategy.begin()
        strategy.reduce()
    strategy.close()
    final = [1 - offset / gradient.size for offset, _ in marks]
    shares = np.median(comm.allgather(np.median(passed[WARM_UP:], axis=0)), axis=0).tolist()
    columns = np.transpose(turns[WARM_UP:]).tolist()
    return Beside(list(zip(final, shares, strict=True)), counts.sent_bytes, *columns)


def _together(comm: Comm) -> float:
    """Return the time, on all ranks the same moment; collective."""
    comm.allreduce_(np.zeros(1))
    return time.perf_counter()


class _Noting:
    """A communicator that notes when somebody last saw the end of a reduction that it began."""

    def __init__(self, comm: Comm) -> None:
        self._comm = comm
        self.ended_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._comm, name)

    def iallreduce_(self, array: np.ndarray) -> "_Noted":
        return _Noted(self._comm.iallreduce_(array), self)


class _Noted:
    """A reduction of a `_Noting`."""

    def __init__(self, pending: Pending, noting: _Noting) -> None:
        self._pending, self._noting = pending, noting
        self._has_ended = False

    def test(self) -> bool:
        ended = self._pending.test()
        if ended:
            self._note()
        return ended

    def wait(self) -> None:
        self._pending.wait()
        self._note()

    def _note(self) -> None:
        if not self._has_ended:  # one may still be waited for after its end
            self._has_ended, self._noting.ended_s = True, time.perf_counter()
