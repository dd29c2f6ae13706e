"""Runs, which of them count, and what is compared with what.

What is compared is compared within a round, whose runs follow each other within minutes, and the median over the rounds
is taken afterwards: what slows the machine down for longer than a round slows down both. A run that other work has
disturbed does not count; what it would have been is measured again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from dist_llm.measuring.spread import Spread
from dist_llm.scalability.points import Point, Series
from dist_llm.scalability.training_run import Training

DISTURBED = 0.03  # share of the CPUs' time that others had during a run

Rounds = dict[int, "Run"]  # the run of each round


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


def of_series(series: Series, runs: Iterable[Run]) -> dict[Point, list[Run]]:
    """Return the runs of each point of a series, disturbed ones included; points without any are left out."""
    found: dict[Point, list[Run]] = {point: [] for point in series.points}
    for run in runs:
        for point in series.points:
            if (run.point, run.batch_size) == (str(point), series.batch_size(point)):
                found[point].append(run)
    return {point: own for point, own in found.items() if own}


def counted(runs: Iterable[Run]) -> Rounds:
    """Return the undisturbed run of each round, of one point."""
    return {run.round: run for run in runs if not run.disturbed}


def fastest(series: Series, runs: Iterable[Run], seq_len: int) -> Point | None:
    """Return the point of a series that most tokens per second were measured on; None without a run."""
    found = {
        point: median(run.tokens_per_s(seq_len) for run in counted(own).values() or own)
        for point, own in of_series(series, runs).items()
    }
    return max(found, key=lambda point: found[point], default=None)


def speeds(rounds: Rounds, seq_len: int) -> dict[int, float]:
    """Return the tokens per second of each round."""
    return {number: run.tokens_per_s(seq_len) for number, run in rounds.items()}


def ratio(rounds: Mapping[int, float], others: Mapping[int, float]) -> Spread | None:
    """Return one figure over another, round by round; None without a round that both have."""
    both = sorted(rounds.keys() & others.keys())
    return Spread.of(rounds[r] / others[r] for r in both) if both else None


def over(spread: Spread | None, divisor: float) -> Spread | None:
    """Return a spread divided by a number; None of none."""
    return spread and Spread.of(value / divisor for value in spread.rounds)


def efficiencies(series: Series, runs: Iterable[Run], seq_len: int) -> dict[Point, Spread | None]:
    """Return what each point's speed is to that of the first one, per core; None where no round has both."""
    found = {point: speeds(counted(own), seq_len) for point, own in of_series(series, runs).items()}
    reference, own_speeds = next(iter(found.items()), (Point(1, 1), {}))
    return {p: over(ratio(own, own_speeds), p.cores / reference.cores) for p, own in found.items()}
