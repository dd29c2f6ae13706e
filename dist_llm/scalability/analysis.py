"""From runs to figures: what each point of a series reached, where its time went, and how far to trust it.

What is compared is compared within a round, whose runs follow each other within minutes, and the median over the rounds
is taken afterwards: what slows the machine down for longer than a round slows down both.

Laws of scaling say which share s of the work is serial. Amdahl (1967), fixed work: 1 / S(n) = s + (1 - s) / n.
Gustafson (1988), work that grows with the cores: S(n) = n - s (n - 1). Karp and Flatt (1990): what s each single point
says; where it grows with n, the loss is no fixed serial part, but something that comes with the cores: communication,
imbalance, memory bandwidth. A share below zero means more than n-fold speed on n cores, as when what a core works on
comes to fit its cache.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from dist_llm.config import Config
from dist_llm.measuring.flops import mfu
from dist_llm.measuring.machine import Disturbance
from dist_llm.measuring.peak import Peak
from dist_llm.measuring.spread import Spread
from dist_llm.scalability.job import Training
from dist_llm.scalability.points import Point, Series

PHASES = ("compute", "communication", "imbalance", "data", "optimizer", "other")
DISTURBED = 0.03  # share of the CPUs' time that others had during a run
WIDE = 0.1  # (most - least) / median of the speeds of a point
# Relative differences of the loss that rounding explains; those of another arithmetic, or of parameters that have come
# apart, are larger after a few steps.
ROUNDING = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2}


@dataclass(frozen=True)
class Run(Training):
    """One job's measurement, and which it was."""

    round: int
    point: str
    batch_size: int

    @property
    def disturbed(self) -> bool:
        """Whether others had a part of the CPUs that counts."""
        return self.disturbance.other + self.disturbance.stolen > DISTURBED

    @property
    def oversubscribed(self) -> bool:
        """Whether threads had to take turns on cores, as their placement found."""
        return any(rank.placement.warning for rank in self.ranks)

    def tokens_per_s(self, seq_len: int) -> float:
        """Return the speed of all ranks together, by the time of the slowest."""
        return self.batch_size * seq_len * self.steps / self.seconds


@dataclass(frozen=True)
class PointResult:
    """The figures of a point: medians over its rounds, or their spread."""

    point: str
    ranks: int
    threads: int
    cores: int
    hosts: int
    binding: str  # who gave the ranks their cores
    oversubscribed: bool  # threads took turns on cores: shown, and not counted as scaling
    batch_size: int
    tokens_per_step: int
    runs: int
    disturbed_runs: int
    disturbance: Disturbance  # the worst of all runs
    repeat: str  # why the figures are not to be trusted; "" if they are
    tokens_per_s: Spread
    step_s: float
    seconds: dict[str, float]  # of a step by phase, the mean over ranks
    backward_s: float
    shares: dict[str, float]  # of the phases in a step
    peak_memory_bytes: list[int]
    bytes_sent: float
    speed_up: Spread | None  # over the reference of the series
    efficiency: Spread | None  # speed-up per core, relative to those of the reference
    to_one_process: Spread | None  # speed over that of one process with threads on as many cores
    karp_flatt: float | None
    mfu: Spread


@dataclass(frozen=True)
class Fit:
    """A law of scaling, the points it was fitted to, and the serial share that it says."""

    law: str
    points: list[str]
    serial_share: Spread


@dataclass(frozen=True)
class Losses:
    """The losses of the last step that all runs have taken: on one batch, all points must come to one loss."""

    step: int
    by_point: dict[str, float]  # of the first run
    difference: float  # the largest relative one of any two runs
    tolerance: float | None  # None with local steps, where every number of ranks is an algorithm of its own
    equal: bool | None  # likewise


@dataclass(frozen=True)
class SeriesResult:
    """The figures of a series."""

    mode: str
    sequences: int
    reference: str | None  # the point that speed-up is relative to; None if all failed
    points: list[PointResult]
    fit: Fit | None
    left_out: list[str]  # points with more ranks than a batch has sequences
    failed: list[str]  # points without a run
    losses: Losses | None = None  # of strong scaling


def summarize(series: Series, runs: Iterable[Run], peak: Peak, config: Config, flops_per_token: int) -> SeriesResult:
    """Return the figures of a series, from the runs of any."""
    T, found = config.model.max_seq_len, {point: dict[int, Run]() for point in series.points}
    for run in runs:
        for point in series.points:
            if (run.point, run.batch_size) == (str(point), series.batch_size(point)):
                found[point][run.round] = run
    found = {point: rounds for point, rounds in found.items() if rounds}
    speeds = {point: {r: run.tokens_per_s(T) for r, run in rounds.items()} for point, rounds in found.items()}
    reference = next(iter(found), Point(1, 1))

    def ratio(point: Point, other: Point) -> Spread | None:
        """Speeds of a point over those of another, round by round."""
        both = sorted(speeds[point].keys() & speeds.get(other, {}).keys())
        return Spread.of(speeds[point][r] / speeds[other][r] for r in both) if both else None

    def result(point: Point, own: Sequence[Run]) -> PointResult:
        speed, speed_up, cores = list(speeds[point].values()), ratio(point, reference), point.cores / reference.cores
        oversubscribed = any(run.oversubscribed for run in own)
        placements = [rank.placement for rank in own[0].ranks]
        memory = zip(*([rank.peak_memory_bytes for rank in run.ranks] for run in own), strict=True)
        batch_size = series.batch_size(point)
        return PointResult(
            point=str(point), ranks=point.ranks, threads=point.threads, cores=point.cores,
            hosts=len({placement.host for placement in placements}),
            binding=", ".join(sorted({placement.bound_by or "not bound" for placement in placements})),
            oversubscribed=oversubscribed, batch_size=batch_size, tokens_per_step=batch_size * T,
            runs=len(own), disturbed_runs=sum(run.disturbed for run in own),
            disturbance=Disturbance(max(r.disturbance.other for r in own), max(r.disturbance.stolen for r in own)),
            repeat=_must_be_repeated(own, Spread.of(speed)),
            tokens_per_s=Spread.of(speed), step_s=median(run.seconds / run.steps for run in own),
            seconds={p: median(fmean(r.seconds[p] for r in run.ranks) / run.steps for run in own) for p in PHASES},
            backward_s=median(fmean(r.backward_s for r in run.ranks) / run.steps for run in own),
            shares={p: median(fmean(r.seconds[p] / r.total_s for r in run.ranks) for run in own) for p in PHASES},
            peak_memory_bytes=[max(of_rank) for of_rank in memory],
            bytes_sent=fmean(rank.bytes_sent / run.steps for run in own for rank in run.ranks),
            speed_up=speed_up, efficiency=speed_up and Spread.of(s / cores for s in speed_up.rounds),
            to_one_process=ratio(point, Point(1, point.cores)),
            karp_flatt=karp_flatt(cores, speed_up.median) if speed_up and cores > 1 and not oversubscribed else None,
            mfu=mfu(speed, flops_per_token, peak, point.cores),
        )  # fmt: skip

    points, strong = [result(point, list(rounds.values())) for point, rounds in found.items()], series.mode == "strong"
    return SeriesResult(
        mode=series.mode, sequences=series.sequences, reference=str(reference) if found else None, points=points,
        fit=_fit("Amdahl" if strong else "Gustafson", points), left_out=[str(point) for point in series.left_out],
        failed=[str(point) for point in series.points if point not in found],
        losses=compare_losses(list(found.values()), config) if strong else None,
    )  # fmt: skip


def compare_losses(points: Sequence[Mapping[int, Run]], config: Config) -> Losses | None:
    """Compare the losses of all runs; None if there are none."""
    runs, parallel = [run for rounds in points for run in rounds.values()], config.parallel
    if not runs:
        return None
    step = min(len(run.losses) for run in runs)
    losses = [run.losses[step - 1] for run in runs]
    difference = (max(losses) - min(losses)) / min(losses)
    tolerance = None if parallel.strategy == "local" else ROUNDING[parallel.reduce_dtype]
    if parallel.strategy == "deterministic":
        # In fixed point they are equal bit for bit, on any number of ranks; but BLAS rounds differently with other
        # threads.
        by_threads: dict[str, set[float]] = {}
        for run, loss in zip(runs, losses, strict=True):
            by_threads.setdefault(run.point.partition("x")[2], set()).add(loss)
        if len(by_threads) == 1 or any(len(values) > 1 for values in by_threads.values()):
            tolerance = 0.0
    by_point = {run.point: run.losses[step - 1] for run in reversed(runs)}
    return Losses(step, by_point, difference, tolerance, None if tolerance is None else difference <= tolerance)


def _must_be_repeated(runs: Sequence[Run], speed: Spread) -> str:
    """Return why a point's figures are not to be trusted; "" if they are."""
    disturbed = sum(run.disturbed for run in runs)
    if 2 * disturbed >= len(runs):
        return f"other work disturbed {disturbed} of {len(runs)} runs"
    width = (speed.max - speed.min) / speed.median
    return f"the runs are {100 * width:.0f} % apart" if width > WIDE else ""


def _fit(law: str, points: Sequence[PointResult]) -> Fit | None:
    """Fit a law to the points of more and more ranks, with the threads of the first; None without two."""
    several = [p for p in points if p.threads == points[0].threads and p.ranks > points[0].ranks]
    chosen = [(p, p.speed_up.rounds) for p in several if p.speed_up and not p.oversubscribed]
    if not chosen:
        return None
    names, cores = [p.point for p, _ in chosen], [p.cores / points[0].cores for p, _ in chosen]
    by_round = [rounds for _, rounds in chosen]
    shares = Spread.of(serial_share(law, cores, speed_ups) for speed_ups in zip(*by_round, strict=False))
    return Fit(law, names, shares)


def serial_share(law: str, cores: Sequence[float], speed_ups: Sequence[float]) -> float:
    """Return what fits best, by least squares in 1 / S (Amdahl) or in S; one of the relative cores is above 1."""
    n, s = np.asarray(cores, float), np.asarray(speed_ups, float)
    x, y = (1 - 1 / n, 1 / s - 1 / n) if law == "Amdahl" else (n - 1, n - s)
    return float(x @ y / (x @ x))


def karp_flatt(cores: float, speed_up: float) -> float:
    """Return the serial share that one speed-up on more than one core stands for."""
    return (1 / speed_up - 1 / cores) / (1 - 1 / cores)
