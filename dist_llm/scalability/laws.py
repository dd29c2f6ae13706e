"""Laws of scaling, which say what share s of the work is serial, and whether a measured series obeys one.

Amdahl (1967), fixed work: 1 / S(n) = s + (1 - s) / n. Gustafson (1988), work that grows with the cores:
S(n) = n - s (n - 1). Karp and Flatt (1990): what s each single point says; where it grows with n, the loss is no fixed
serial part, but something that comes with the cores: communication, imbalance, memory bandwidth.

A share lies between 0 and 1, a law that fits is near its points, and one that is good for anything foretells a point
that it was not fitted to. What does not is not called a result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dist_llm.measuring.spread import Spread

TOLERATED = 0.25  # relative error of what is still called a model


@dataclass(frozen=True)
class HeldOut:
    """A point that a model was not fitted to: what the model says of it, and what was measured."""

    point: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Relative, (predicted - measured) / measured."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True)
class SpeedUps:
    """What a law is fitted to: the speed-ups of a point, round by round."""

    point: str
    cores: float  # relative to those of the reference
    spread: Spread


@dataclass(frozen=True)
class Fit:
    """A law of scaling, the points it was fitted to, and the serial share that it says."""

    law: str
    points: list[str]
    serial_share: Spread
    error: float  # the largest relative one of the fitted speed-ups
    held_out: HeldOut | None  # the largest point, foretold from those up to half as large; None without any
    doubt: str  # why the share is no result; "" if it is one


def fit(law: str, points: Sequence[SpeedUps]) -> Fit | None:
    """Fit a law to the points beyond the reference, in the order of cores; None without any."""
    if not points:
        return None
    shares = Spread.of(_of_rounds(law, points))
    errors = [speed_up(law, shares.median, p.cores) / p.spread.median - 1 for p in points]
    error, last = max(map(abs, errors)), points[-1]
    smaller, held_out = [p for p in points if p.cores <= last.cores / 2], None
    if smaller:
        predicted = speed_up(law, Spread.of(_of_rounds(law, smaller)).median, last.cores)
        held_out = HeldOut(last.point, predicted, last.spread.median)
    return Fit(law, [p.point for p in points], shares, error, held_out, _doubt(shares.median, error, held_out))


def _doubt(share: float, error: float, held_out: HeldOut | None) -> str:
    if not 0 <= share <= 1:
        return "no share between 0 and 100 % fits" + " (more than n-fold speed on n cores)" * (share < 0)
    if error > TOLERATED:
        return f"it is {100 * error:.0f} % off the points that it was fitted to"
    if held_out and abs(held_out.error) > TOLERATED:
        return f"fitted to half the cores, it is {100 * held_out.error:+.0f} % off at {held_out.point}"
    return ""


def _of_rounds(law: str, points: Sequence[SpeedUps]) -> list[float]:
    cores, by_round = [p.cores for p in points], zip(*(p.spread.rounds for p in points), strict=False)
    return [serial_share(law, cores, speed_ups) for speed_ups in by_round]


def serial_share(law: str, cores: Sequence[float], speed_ups: Sequence[float]) -> float:
    """Return what fits best, by least squares in 1 / S (Amdahl) or in S; one of the relative cores is above 1."""
    n, s = np.asarray(cores, float), np.asarray(speed_ups, float)
    x, y = (1 - 1 / n, 1 / s - 1 / n) if law == "Amdahl" else (n - 1, n - s)
    return float(x @ y / (x @ x))


def speed_up(law: str, share: float, cores: float) -> float:
    """Return what a law expects of so many cores."""
    return 1 / (share + (1 - share) / cores) if law == "Amdahl" else cores - share * (cores - 1)


def karp_flatt(cores: float, speed_up: float) -> float:
    """Return the serial share that one speed-up on more than one core stands for."""
    return (1 / speed_up - 1 / cores) / (1 - 1 / cores)
