"""A figure that was measured several times."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """Its median, its extremes, and its values, one per round."""

    median: float
    min: float
    max: float
    rounds: list[float]

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Return the spread of some values, at least one."""
        rounds = list(values)
        return cls(median(rounds), min(rounds), max(rounds), rounds)

    def middle(self, digits: int, factor: float = 1, unit: str = "") -> str:
        """Return the median as text, times a factor."""
        return f"{factor * self.median:,.{digits}f}{unit}"

    def cells(self, digits: int, factor: float = 1, unit: str = "") -> tuple[str, str]:
        """Return the median and, in brackets, the extremes."""
        return self.middle(digits, factor, unit), f"({self.range(digits, factor)})"

    def range(self, digits: int, factor: float = 1) -> str:
        """Return the extremes as text, times a factor."""
        return f"{factor * self.min:,.{digits}f}..{factor * self.max:,.{digits}f}"
