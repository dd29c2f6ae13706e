"""From runs to figures: what each point of a series reached, where its time went, and how far to trust it.

Every figure is a median over the rounds with its 95 % confidence interval; what is relative to another point is taken
within a round. A point has results if enough of its runs, and of the reference's, were not disturbed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from dist_llm.config import Config
from dist_llm.measuring.confidence import FEWEST
from dist_llm.measuring.flops import mfu
from dist_llm.measuring.machine import Disturbance
from dist_llm.measuring.peak import Peak
from dist_llm.measuring.spread import Spread
from dist_llm.measuring.tables import count
from dist_llm.parallel.strategy import Traffic
from dist_llm.scalability.laws import Fit, SpeedUps, fit, karp_flatt
from dist_llm.scalability.losses import Losses, compare_losses
from dist_llm.scalability.points import Point, Series
from dist_llm.scalability.pop import Factors, factors
from dist_llm.scalability.runs import Rounds, Run, counted, of_series, over, ratio, speeds

PHASES = ("compute", "communication", "imbalance", "data", "optimizer", "other")
# A percentile is read off where at least one step lies beyond it.
FEWEST_STEPS = {50: 2, 95: 20, 99: 100}


@dataclass(frozen=True)
class StepTimes:
    """How long single steps took, of all counted runs together, warm-up left out."""

    steps: int
    p50_s: float | None  # None with too few steps to tell
    p95_s: float | None
    p99_s: float | None
    warm_up_steps: list[int]  # of each run, as found


@dataclass(frozen=True)
class SlowestRank:
    """The rank that computes longest most often, whom all others wait for."""

    rank: int
    host: str
    slowest_in: int  # runs
    behind: Spread  # its time of computing, relative to the mean of all, minus 1


@dataclass(frozen=True)
class PointResult:
    """The figures of a point: medians over its counted rounds, or their spread."""

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
    doubt: str  # why nothing is concluded from the figures; "" if it may be
    tokens_per_s: Spread  # of the disturbed runs, where there are no others
    step_s: Spread
    step_times: StepTimes
    seconds: dict[str, float]  # of a step by phase, the mean over ranks
    backward_s: float
    shares: dict[str, Spread]  # of the phases in a step
    slowest_rank: SlowestRank | None  # of several
    peak_memory_bytes: list[int]
    bytes_sent: float
    traffic: Traffic
    speed_up: Spread | None  # over the reference of the series
    efficiency: Spread | None  # speed-up per core, relative to those of the reference
    to_one_process: Spread | None  # speed over that of one process with threads on as many cores
    factors: Factors | None  # of the efficiency
    karp_flatt: float | None  # where it is a share
    mfu: Spread
    step_energy_j: Spread | str  # what the processors of all hosts take; or why that is not known


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
    found, T = of_series(series, runs), config.model.max_seq_len
    rounds = {point: counted(own) for point, own in found.items()}
    speed_of = {point: speeds(own, T) for point, own in rounds.items()}
    reference = next(iter(found), Point(1, 1))

    def result(point: Point, own: Sequence[Run]) -> PointResult:
        speed_up, cores = ratio(speed_of[point], speed_of.get(reference, {})), point.cores / reference.cores
        oversubscribed, good = any(run.oversubscribed for run in own), list(rounds[point].values()) or own
        serial = karp_flatt(cores, speed_up.median) if speed_up and cores > 1 and not oversubscribed else -1.0
        placements, batch_size = [rank.placement for rank in own[0].ranks], series.batch_size(point)
        memory = zip(*([rank.peak_memory_bytes for rank in run.ranks] for run in own), strict=True)
        speed = [run.tokens_per_s(T) for run in good]
        return PointResult(
            point=str(point), ranks=point.ranks, threads=point.threads, cores=point.cores,
            hosts=len({placement.host for placement in placements}),
            binding=", ".join(sorted({placement.bound_by or "not bound" for placement in placements})),
            oversubscribed=oversubscribed, batch_size=batch_size, tokens_per_step=batch_size * T,
            runs=len(own), disturbed_runs=sum(run.disturbed for run in own),
            disturbance=Disturbance(max(r.disturbance.other for r in own), max(r.disturbance.stolen for r in own)),
            doubt=_doubt(own, rounds[point], rounds[reference]),
            tokens_per_s=Spread.of(speed), step_s=Spread.of(run.seconds / run.steps for run in good),
            step_times=_step_times(good),
            seconds={phase: median(run.phase_s(phase) for run in good) for phase in PHASES},
            backward_s=median(fmean(r.backward_s for r in run.ranks) / run.steps for run in good),
            shares={p: Spread.of(fmean(r.seconds[p] / r.total_s for r in x.ranks) for x in good) for p in PHASES},
            slowest_rank=_slowest_rank(good), peak_memory_bytes=[max(of_rank) for of_rank in memory],
            bytes_sent=fmean(rank.bytes_sent / run.steps for run in own for rank in run.ranks),
            traffic=own[0].traffic, speed_up=speed_up,
            efficiency=over(speed_up, cores),
            to_one_process=ratio(speed_of[point], speed_of.get(Point(1, point.cores), {})),
            factors=factors(rounds[point], rounds.get(reference, {})),
            karp_flatt=serial if 0 <= serial <= 1 else None, mfu=mfu(speed, flops_per_token, peak, point.cores),
            step_energy_j=_energy(good),
        )  # fmt: skip

    points, strong = [result(point, own) for point, own in found.items()], series.mode == "strong"
    return SeriesResult(
        mode=series.mode, sequences=series.sequences, reference=str(reference) if found else None, points=points,
        fit=_fit("Amdahl" if strong else "Gustafson", points), left_out=[str(point) for point in series.left_out],
        failed=[str(point) for point in series.points if point not in found],
        losses=compare_losses((run for own in found.values() for run in own), config) if strong else None,
    )  # fmt: skip


def _doubt(own: Sequence[Run], good: Rounds, reference: Rounds) -> str:
    """Return why nothing is concluded from a point's figures; "" if it may be."""
    both = good.keys() & reference.keys()
    if len(both) >= FEWEST:
        return ""
    disturbed = sum(run.disturbed for run in own)
    if disturbed:
        return f"other work disturbed {disturbed} of {count(len(own), 'run')}"
    common = " in common with the reference" * (len(both) < len(good))
    return f"{count(len(both), 'round')}{common}: fewer than the {FEWEST} of a 95 % interval"


def _step_times(runs: Sequence[Run]) -> StepTimes:
    seconds = [s for run in runs for s in run.step_s[run.warm_up_steps :]]
    p50, p95, p99 = (
        float(np.percentile(seconds, p)) if len(seconds) >= fewest else None for p, fewest in FEWEST_STEPS.items()
    )
    return StepTimes(len(seconds), p50, p95, p99, [run.warm_up_steps for run in runs])


def _energy(runs: Sequence[Run]) -> Spread | str:
    reasons = [run.step_energy_j for run in runs if isinstance(run.step_energy_j, str)]
    return reasons[0] if reasons else Spread.of(float(run.step_energy_j) for run in runs)


def _slowest_rank(runs: Sequence[Run]) -> SlowestRank | None:
    if len(runs[0].ranks) == 1:
        return None
    useful = np.array([[rank.useful_s for rank in run.ranks] for run in runs])  # (runs, ranks)
    times = np.bincount(useful.argmax(axis=1), minlength=useful.shape[1])
    rank = int(times.argmax())
    behind = Spread.of((useful[:, rank] / useful.mean(axis=1) - 1).tolist())
    return SlowestRank(rank, runs[0].ranks[rank].placement.host, int(times[rank]), behind)


def _fit(law: str, points: Sequence[PointResult]) -> Fit | None:
    """Fit a law to the points of more and more ranks, with the threads of the first; None without two."""
    several = [p for p in points if p.threads == points[0].threads and p.ranks > points[0].ranks]
    known = [p for p in several if not (p.oversubscribed or p.doubt or points[0].doubt)]
    return fit(law, [SpeedUps(p.point, p.cores / points[0].cores, p.speed_up) for p in known if p.speed_up])
