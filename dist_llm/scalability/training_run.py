"""The steps of a run, as each rank saw them: where their time went, and which of them are measured.

Every step is timed by itself. What is measured are those behind the warm-up, which is found in the times of all.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from dist_llm.config import Config
from dist_llm.data.loader import Loader
from dist_llm.fast.threads import use_threads
from dist_llm.measuring.energy import PackageEnergy
from dist_llm.measuring.hardware_counters import HardwareCounters, HardwareCounts
from dist_llm.measuring.machine import CpuUsage, Disturbance
from dist_llm.measuring.phases import Phases
from dist_llm.measuring.warm_up import warm_up
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.counts import Counts
from dist_llm.parallel.hosts import first_of_machine
from dist_llm.parallel.placement import Placement, peak_memory_bytes, place
from dist_llm.parallel.strategy import Traffic
from dist_llm.parallel.topology import Topology
from dist_llm.scalability.wait_times import wait_times
from dist_llm.training.broadcast_tokens import broadcast_tokens
from dist_llm.training.step import TrainStep
from dist_llm.training.step_result import StepResult

FIRST_STEPS = 2  # by the second of them, it is known how long a step takes
COMPUTING = ("forward", "backward", "optimizer")  # where instructions and cycles are counted: nothing waits there


@dataclass(frozen=True)
class RankTimes:
    """What one rank measured, of all measured steps."""

    seconds: dict[str, float]  # by phase: compute, communication, imbalance, data, optimizer and other
    total_s: float
    backward_s: float
    peak_memory_bytes: int
    bytes_sent: float
    placement: Placement
    counts: HardwareCounts | str  # what the processor counted in computing, in all steps; or why it did not
    counted_s: float  # of that

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
    traffic: Traffic
    ranks: list[RankTimes]
    step_energy_j: float | str  # what the processors of all machines take for a step; or why that is not known

    def phase_s(self, phase: str) -> float:
        """Return the seconds of a phase in a step, the mean over ranks."""
        return fmean(rank.seconds[phase] for rank in self.ranks) / self.steps


class _Clocks(Phases):
    """Phases without what is waited in them, and what the processor counts while it computes."""

    def __init__(self, counts: Counts, counters: HardwareCounters) -> None:
        super().__init__(lambda: counts.wait_s)
        self._counters = counters
        self.counted_s = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        before_s = self.seconds[name]
        with ExitStack() as stack:
            if name in COMPUTING:
                stack.enter_context(self._counters.counting())
            stack.enter_context(super().phase(name))
            yield
        if name in COMPUTING:
            self.counted_s += self.seconds[name] - before_s


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
    first_here = first_of_machine(comm)[comm.rank] == comm.rank  # its processors are asked by one rank
    with comm.counting() as counts, HardwareCounters() as counters:
        # What waits inside of a phase, as Muon for what others computed, is counted as waiting alone.
        clocks = _Clocks(counts, counters)
        step = TrainStep(config, Loader.of(data.train, config), comm, observer=clocks)
        # Whole rounds of local steps, or the averaging that ends them would not count.
        group = 1 if step.strategy.synchronous else config.parallel.local_steps
        usage = CpuUsage(comm, placement)
        comm.allreduce_(np.zeros(1))  # all begin at the same moment
        with PackageEnergy() if first_here else nullcontext() as energy:
            taken, slowest_s, first = _take(step, clocks, comm, group, least_steps, least_s)
        worst = usage.disturbance()
        traffic = step.strategy.traffic(config.parallel, step.model.params.size, Topology.of(comm))
        step.close()
    ranks = comm.allgather(_rank_times(comm, taken[first:], placement, counters.counts, clocks.counted_s))
    used_j = [joules for joules in comm.allgather(energy.joules if energy else None) if joules is not None]
    reasons = [joules for joules in used_j if isinstance(joules, str)]
    return Training(
        steps=len(taken) - first, warm_up_steps=first, seconds=max(rank.total_s for rank in ranks),
        step_s=slowest_s, losses=[one.result.loss for one in taken], disturbance=worst, mpi=comm.mpi_version,
        traffic=traffic, ranks=ranks, step_energy_j=reasons[0] if reasons else sum(map(float, used_j)) / len(taken),
    )  # fmt: skip


def _take(
    step: TrainStep, clocks: _Clocks, comm: Comm, group: int, least_steps: int, least_s: float
) -> tuple[list[_Step], list[float], int]:
    """Take steps, in whole groups; collective.

    Returns
    -------
    taken : list of _Step
    slowest_s : list of float
        Of each, on the rank that was slowest in it.
    first : int
        How many are warm-up.
    """
    taken: list[_Step] = []
    slowest_s: list[float] = []
    missing, wanted, most, first = FIRST_STEPS, 0, 0, 0
    while missing > 0:
        taken += [_timed(step, clocks, comm) for _ in range(group * math.ceil(missing / group))]
        slowest_s = np.max(comm.allgather([one.seconds for one in taken]), axis=0).tolist()
        if not wanted:
            wanted = max(least_steps, math.ceil(least_s / slowest_s[-1]))
            most = 2 * (wanted + len(taken))
        first = warm_up(slowest_s, group)
        missing = min(max(FIRST_STEPS, first) + wanted, most) - len(taken)
    return taken, slowest_s, first


def _timed(step: TrainStep, clocks: _Clocks, comm: Comm) -> _Step:
    clocks.seconds.clear()
    with comm.counting() as counts:
        start_s = time.perf_counter()
        result = step()
        seconds = time.perf_counter() - start_s
    return _Step(seconds, dict(clocks.seconds), counts.waits, result)


def _rank_times(
    comm: Comm, taken: Sequence[_Step], placement: Placement, counts: HardwareCounts | str, counted_s: float
) -> RankTimes:
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
    backward_s = clock("backward")
    return RankTimes(seconds, total_s, backward_s, peak_memory_bytes(), sent, placement, counts, counted_s)
