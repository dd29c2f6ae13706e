"""Runs with known timings, and a report made of them as the command makes one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dist_llm.config import Config
from dist_llm.measuring.machine import Disturbance, Machine
from dist_llm.measuring.peak import Peak
from dist_llm.parallel.cost import MEMORY, CostModel, Network
from dist_llm.parallel.placement import Placement
from dist_llm.parallel.strategy import Traffic
from dist_llm.parallel.topology import Topology
from dist_llm.scalability.learning_run import LearningRun
from dist_llm.scalability.measurements import LossTarget, Measurements, Method
from dist_llm.scalability.operations import Timings
from dist_llm.scalability.points import Point, make_series, parse_points
from dist_llm.scalability.report import Report, make_report
from dist_llm.scalability.runs import Run
from dist_llm.scalability.training_run import RankTimes

CONFIG = Config().replace({"model": {"vocab_size": 512, "max_seq_len": 100}, "train": {"batch_size": 8}})
MACHINE = Machine(
    dist_llm="0", host="here", platform="Linux", cpu="A <fast> CPU", usable_cores=4, local_cores=4,
    affinity=[0, 1, 2, 3], logical_cpus=4, cpu_quota=None, frequency_governor=None, memory_bytes=8_000_000_000,
    python="3", numpy="2", blas="openblas", load_average=[0.0, 0.0, 0.0], busy_before=[0.0, 0.0, 0.0, 0.0],
    others_before=[],
)  # fmt: skip


def one_run(
    number: int,
    point: Point,
    step_s: float,
    *,
    batch_size: int = 8,
    steps: int = 10,
    loss: float = 5.0,
    waiting: tuple[float, float] = (0.0, 0.0),
    disturbance: float = 0.0,
    warning: str = "",
) -> Run:
    """What a job measures: of each step, 10 % optimizer, as much waiting as told, and the rest compute."""
    communication, imbalance = waiting
    shares = {"communication": communication, "imbalance": imbalance, "data": 0.0, "optimizer": 0.1, "other": 0.0}
    shares = {"compute": 1 - sum(shares.values()), **shares}
    total_s = steps * step_s
    ranks = [
        RankTimes(
            seconds={phase: share * total_s for phase, share in shares.items()},
            total_s=total_s,
            backward_s=0.6 * shares["compute"] * total_s,
            peak_memory_bytes=100_000_000 + rank,
            bytes_sent=1000.0 * steps * (point.ranks > 1),
            placement=Placement("here", (0, 1), point.threads, "openblas", "dist_llm", None, "", warning),
            counts="no counters here",
            counted_s=total_s,
        )
        for rank in range(point.ranks)
    ]
    return Run(
        steps=steps,
        warm_up_steps=1,
        seconds=total_s,
        step_s=[3 * step_s, *[step_s] * steps],
        losses=[6.0, 5.5, loss],
        disturbance=Disturbance(disturbance, 0.0),
        mpi="Open MPI v5",
        traffic=Traffic("nonblocking all-reduce", 513_835, 18, overlaps=True),
        ranks=ranks,
        step_energy_j="no RAPL here",
        round=number,
        point=str(point),
        batch_size=batch_size,
    )


SLOW = (1, 2, 1, 1, 1, 1)


def runs(step_s: dict[str, float], slow: tuple[float, ...] = SLOW, **more: Any) -> list[Run]:
    """One run of each point in each round, rounds being slower by these factors."""
    return [
        one_run(number, *parse_points(name), factor * seconds, **more)
        for number, factor in enumerate(slow)
        for name, seconds in step_s.items()
    ]


def learning_run(batch_size: int, losses: list[float], interval: int = 10, lr: float = 2e-3) -> LearningRun:
    """What a job learns: these losses, the first of them before the first step."""
    steps = [interval * i for i in range(len(losses))]
    return LearningRun(batch_size, "2x1", lr, 32 * interval, steps, losses, [0.5 * step for step in steps])


# 800 tokens per step; ranks have a serial share of a tenth, threads of a half.
STRONG = {"1x1": 1.0, "1x2": 0.75, "2x1": 0.55, "1x4": 0.625, "4x1": 0.325}


def study(
    measured: list[Run],
    points: str = "1x1,1x2,2x1,1x4,4x1",
    modes: tuple[str, ...] = ("strong",),
    learned: Sequence[LearningRun] = (),
    loss: float = 3.0,
) -> Measurements:
    """A study that has these runs, and those that learned to a loss."""
    series = [make_series(mode, parse_points(points), 8) for mode in modes]
    result = Measurements(CONFIG, series, 8, 4, Method(6, 2, 1.0, 60.0))
    result.runs += measured
    if learned:
        sizes = sorted({run.batch_size for run in learned})
        result.to_loss = LossTarget(loss, [make_series("strong", parse_points(points), size) for size in sizes])
        result.learned += learned
    result.peaks += [Peak(100.0, 370.0, 4), Peak(95.0, 380.0, 4)]
    cost, sizes = CostModel("ring", 2e-6, 1e-10, 5e-11), [1 << 10, 1 << 16, 1 << 20]
    for ranks in (2, 4):
        traffic, batches_s = result.traffic(Topology(ranks, 1, MEMORY)), [[cost.seconds(ranks, n)] for n in sizes]
        result.timings[ranks] = Timings(traffic, sizes, batches_s, 5e-11, "Open MPI v5")
    return result


def report(measured: list[Run] | None = None, machine: dict[str, Any] | None = None, **changes: Any) -> Report:
    """A report of a study, on a machine with these differences."""
    made = study(runs(STRONG) if measured is None else measured, **changes)
    where = replace(MACHINE, **(machine or {}))
    return make_report(made, where, "python -m dist_llm.scaling", [Network(25, 10)])
