"""The steps of a run, as each rank saw them: where their time went, and which of them are measured.

Every step is timed by itself. What is measured are those behind the warm-up, which is found in the times of all.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dist_llm.config import Config
from dist_llm.data.loader import Loader
from dist_llm.fast.threads import use_threads
from dist_llm.measuring.machine import CpuUsage, Disturbance
from dist_llm.measuring.phases import Phases
from dist_llm.measuring.warm_up import warm_up
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import Placement, peak_memory_bytes, place
from dist_llm.scalability.wait_times import wait_times
from dist_llm.training.broadcast_tokens import broadcast_tokens
from dist_llm.training.step import TrainStep
from dist_llm.training.step_result import StepResult

FIRST_STEPS = 2  # by the second of them, it is known how long a step takes


@dataclass(frozen=True)
class RankTimes:
    """What one rank measured, of all measured steps."""

    seconds: dict[str, float]  # by phase: compute, communication, imbalance, data, optimizer and other
    total_s: float
    backward_s: float
    peak_memory_bytes: int
    bytes_sent: float
    placement: Placement

    @property
    def useful_s(self) -> float:
        """Seconds that it did not wait for others or for the network."""
        return self.total_s - self.seconds["communication"] - self.seconds["imbalance"]


@dataclass(frozen=True)
class Training:
    """What a job of training steps measured."""

    steps: int  # that are measured
    warm_up_steps: int  # before them
    seconds: float  # of the measured ones, on the slowest rank
    step_s: list[float]  # of each from the first on, warm-up included, on the rank that was slowest in it
    losses: list[float]  # likewise
    disturbance: Disturbance
    mpi: str
    ranks: list[RankTimes]


@dataclass(frozen=True)
class _Step:
    """A step as a rank saw it."""

    seconds: float
    clocks: dict[str, float]
    waits: list[tuple[float, float]]
    result: StepResult


def measure_training(comm: Comm, config: Config, least_steps: int, least_s: float) -> Training:
    """Train from the beginning; collective.

    Measured steps are as many as take `least_s` seconds, and at least `least_steps`, unless most of the run is warm-up;
    rank 0 has the ``data.shards``.
    """
    placement = place(comm, config.parallel.threads)
    data, _ = broadcast_tokens(Path(str(config.data.shards)), comm)
    use_threads(placement.threads)
    with comm.counting() as counts:
        # What waits inside of a phase, as Muon for what others computed, is counted as waiting alone.
        phases = Phases(lambda: counts.wait_s)
        step = TrainStep(config, Loader.of(data.train, config), comm, observer=phases)
        usage = CpuUsage(comm, placement)
        comm.allreduce_(np.zeros(1))  # all begin at the same moment
        # Whole rounds of local steps, or the averaging that ends them would not count.
        group = 1 if step.strategy.synchronous else config.parallel.local_steps
        taken, first = _take(step, phases, comm, group, least_steps, least_s)
        worst = usage.disturbance()
        step.close()
    ranks = comm.allgather(_rank_times(comm, taken[first:], placement))
    slowest_s = np.max(comm.allgather([one.seconds for one in taken]), axis=0)
    return Training(
        len(taken) - first, first, max(rank.total_s for rank in ranks), slowest_s.tolist(),
        [one.result.loss for one in taken], worst, comm.mpi_version, ranks,
    )  # fmt: skip


def _take(
    step: TrainStep, phases: Phases, comm: Comm, group: int, least_steps: int, least_s: float
) -> tuple[list[_Step], int]:
    """Take steps, in whole groups; return them, and how many are warm-up; collective."""
    taken: list[_Step] = []
    missing, wanted, most, first = FIRST_STEPS, 0, 0, 0
    while missing > 0:
        taken += [_timed(step, phases, comm) for _ in range(group * math.ceil(missing / group))]
        slowest_s = np.max(comm.allgather([one.seconds for one in taken]), axis=0).tolist()
        if not wanted:
            wanted = max(least_steps, math.ceil(least_s / slowest_s[-1]))
            most = 2 * (wanted + len(taken))
        first = warm_up(slowest_s, group)
        missing = min(max(FIRST_STEPS, first) + wanted, most) - len(taken)
    return taken, first


def _timed(step: TrainStep, phases: Phases, comm: Comm) -> _Step:
    phases.seconds.clear()
    with comm.counting() as counts:
        start_s = time.perf_counter()
        result = step()
        seconds = time.perf_counter() - start_s
    return _Step(seconds, dict(phases.seconds), counts.waits, result)


def _rank_times(comm: Comm, taken: Sequence[_Step], placement: Placement) -> RankTimes:
    """Add up this rank's steps; collective."""
    imbalance_s, communication_s = wait_times(comm, [wait for one in taken for wait in one.waits])
    total_s = sum(one.seconds for one in taken)

    def clock(phase: str) -> float:
        return sum(one.clocks.get(phase, 0.0) for one in taken)

    seconds = {"compute": clock("forward") + clock("backward")}
    seconds |= {"communication": communication_s, "imbalance": imbalance_s}
    seconds |= {phase: clock(phase) for phase in ("data", "optimizer")}
    seconds["other"] = total_s - sum(seconds.values())
    sent = sum(one.result.comm_bytes for one in taken)
    return RankTimes(seconds, total_s, clock("backward"), peak_memory_bytes(), sent, placement)
