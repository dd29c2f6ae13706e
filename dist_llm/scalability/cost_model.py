"""How long an all-reduce takes, after Thakur, Rabenseifner and Gropp (2005), Int. J. High Perf. Comp. Appl. 19(1).

For n bytes on p ranks, with a seconds for a message to arrive, b seconds for each byte of it and g seconds for the
addition of a byte:

    ring                 2 (p - 1) a    + 2 (p - 1) / p n b + (p - 1) / p n g
    Rabenseifner         2 log2(p) a    + 2 (p - 1) / p n b + (p - 1) / p n g
    recursive doubling   log2(p) a      + log2(p) n b       + log2(p) n g

A reduce-scatter followed by an all-gather is what the first two are made of; an all-to-all followed by one costs the
same as the ring. In a ring the ranks of a host stand side by side, and one of them sends to the next host at a time; in
the other two, and in an all-to-all, all ranks of a host send to other hosts at once, and share its link.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import NamedTuple

import numpy as np

from dist_llm.scalability.traffic import Traffic

ALGORITHMS = ("ring", "Rabenseifner", "recursive doubling")


class Sample(NamedTuple):
    """A measured operation."""

    ranks: int
    n_bytes: int
    seconds: float


@dataclass(frozen=True)
class CostModel:
    """An algorithm and its constants.

    Attributes
    ----------
    algorithm : str
        One of ALGORITHMS.
    latency_s : float
        Of a message: a.
    s_per_byte : float
        Of a message: b.
    add_s_per_byte : float
        Of the reduction: g.
    shares_link : bool
        Whether the ranks of a host send to others at the same time.
    """

    algorithm: str
    latency_s: float
    s_per_byte: float
    add_s_per_byte: float
    shares_link: bool = False

    def seconds(self, ranks: int, n_bytes: float, ranks_per_host: int = 1) -> float:
        """Return how long one operation takes."""
        latency, per_byte, add = coefficients(self.algorithm, ranks, n_bytes)
        flows = min(ranks_per_host, ranks) if self.shares_link else 1
        return latency * self.latency_s + per_byte * flows * self.s_per_byte + add * self.add_s_per_byte


def coefficients(algorithm: str, ranks: int, n_bytes: float) -> tuple[float, float, float]:
    """Return what latency, time per byte and time per added byte are multiplied with."""
    steps = math.ceil(math.log2(ranks))
    share = (ranks - 1) / ranks
    if algorithm == "recursive doubling":
        return steps, steps * n_bytes, steps * n_bytes
    return 2 * (ranks - 1) if algorithm == "ring" else 2 * steps, 2 * share * n_bytes, share * n_bytes


def fit(samples: Sequence[Sample], algorithm: str, add_s_per_byte: float) -> tuple[CostModel, list[float]]:
    """Find the latency and the time per byte that fit measured operations best, none below zero.

    Relative errors are what is made small: an absolute error would be that of the largest message alone.

    Returns
    -------
    model : CostModel
    errors : list of float
        (predicted - measured) / measured, of each sample.
    """
    rows, rest = [], []
    for sample in samples:
        latency, per_byte, add = coefficients(algorithm, sample.ranks, sample.n_bytes)
        rows.append((latency / sample.seconds, per_byte / sample.seconds))
        rest.append(1 - add * add_s_per_byte / sample.seconds)
    x, y = np.array(rows), np.array(rest)
    best = np.zeros(2)
    # With two unknowns, the constrained optimum is the free one or lies on one of the two borders.
    candidates = [(0, 1), (0,), (1,)]
    least = math.inf
    for columns in candidates:
        solution = np.zeros(2)
        solution[list(columns)] = np.linalg.lstsq(x[:, columns], y, rcond=None)[0]
        error = float(np.sum((x @ solution - y) ** 2))
        if solution.min() >= 0 and error < least:
            best, least = solution, error
    return CostModel(algorithm, float(best[0]), float(best[1]), add_s_per_byte), (x @ best - y).tolist()


def fit_best(
    samples: Sequence[Sample], traffic: Traffic, add_s_per_byte: float, ring_is_set: bool
) -> tuple[CostModel, list[float]]:
    """Fit the algorithm that is known to be used, or else the one that fits best.

    Parameters
    ----------
    ring_is_set : bool
        Whether this MPI was told to use its ring for started all-reduces. What it does otherwise is its own choice,
        which can only be guessed from the times; with two ranks, ring and Rabenseifner are one and the same.
    """
    if traffic.operation == "all-reduce" or (traffic.operation == "started all-reduce" and not ring_is_set):
        fits = [fit(samples, algorithm, add_s_per_byte) for algorithm in ALGORITHMS]
        model, errors = min(fits, key=lambda pair: mean(error**2 for error in pair[1]))
    else:
        model, errors = fit(samples, "ring", add_s_per_byte)
    shares_link = model.algorithm != "ring" or traffic.operation == "all-to-all, all-gather"
    return CostModel(**{**model.__dict__, "shares_link": shares_link}), errors
