"""The time of a step by ranks and threads, in Extra-P's JSON Lines.

Extra-P (TU Darmstadt; Calotoiu et al., 2013, Using Automated Performance Modeling to Find Scalability Bugs in Complex
Codes, SC13) fits each part of a program with a sum of terms p^i log2(p)^j, and finds what will dominate at scale. A
file holds one series, since the batch of a weak one grows with the ranks and is no parameter of its own. Extra-P wants
five values of a parameter for a model, and says so where there are fewer.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PointTimes:
    """Seconds of a step of a point: ``step``, and its parts as ``step->compute``; a value for each round."""

    ranks: int
    threads: int
    seconds: Mapping[str, Sequence[float]]


def extra_p(points: Iterable[PointTimes]) -> str:
    """Return a line for each part of each point."""
    lines = (
        {"params": {"ranks": p.ranks, "threads": p.threads}, "callpath": part, "metric": "time", "value": list(values)}
        for p in points
        for part, values in p.seconds.items()
    )
    return "".join(f"{json.dumps(line)}\n" for line in lines)
