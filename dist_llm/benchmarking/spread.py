"""A figure that was measured several times."""

from collections.abc import Sequence
from statistics import median
from typing import Any


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return median, extremes and the values themselves, one per round."""
    return {"median": median(values), "min": min(values), "max": max(values), "rounds": list(values)}
