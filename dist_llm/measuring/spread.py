"""A figure that was measured several times."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from dist_llm.measuring.confidence import median_interval


@dataclass(frozen=True)
class Spread:
    """Its median, its extremes, its values, one per round, and the median's 95 % confidence interval."""

    median: float
    min: float
    max: float
    rounds: list[float]
    interval: list[float] | None = None  # lower and upper end; None with fewer than six values

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Return the spread of some values, at least one."""
        rounds = list(values)
        return cls(median(rounds), min(rounds), max(rounds), rounds, median_interval(rounds))

    def is_within(self, width: float) -> bool:
        """Say whether the interval is known, and narrower than this."""
        return self.interval is not None and self.interval[1] - self.interval[0] < width

    def middle(self, digits: int, factor: float = 1, unit: str = "") -> str:
        """Return the median as text, times a factor."""
        return f"{factor * self.median:,.{digits}f}{unit}"

    def cells(self, digits: int, factor: float = 1, unit: str = "") -> tuple[str, str]:
        """Return the median and, in brackets, the extremes."""
        return self.middle(digits, factor, unit), f"({self.range(digits, factor)})"

    def with_interval(self, digits: int, factor: float = 1) -> str:
        """Return the median and, in brackets, its interval as text, times a factor."""
        return f"{self.middle(digits, factor)} ({self.confidence(digits, factor)})"

    def range(self, digits: int, factor: float = 1) -> str:
        """Return the extremes as text, times a factor."""
        return f"{factor * self.min:,.{digits}f}..{factor * self.max:,.{digits}f}"

    def confidence(self, digits: int, factor: float = 1) -> str:
        """Return the interval as text, times a factor; with too few values, how many there are."""
        if self.interval is None:
            return f"n={len(self.rounds)}"
        low, high = self.interval
        return f"{factor * low:,.{digits}f}..{factor * high:,.{digits}f}"
