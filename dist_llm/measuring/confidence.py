"""How far to trust medians of few measurements: 95 % confidence intervals that suppose no shape of distribution.

Times are neither normal nor symmetric: nothing is ever faster than the hardware, and much makes it slower. Hoefler and
Belli (2015), Scientific Benchmarking of Parallel Computing Systems, SC15, therefore ask for medians with intervals from
order statistics (their rules 5 to 7). Of n sorted values, x_(k) to x_(n + 1 - k) holds the true median if neither fewer
than k nor more than n - k values lie below it, each of them with probability 1/2:

    P(x_(k) < median < x_(n+1-k)) = 1 - 2 sum_(i < k) C(n, i) / 2^n

No k gives just 95 %: between the two that come next, Hettmansperger and Sheather (1986), Statistics & Probability
Letters 4(2), interpolate. Fewer than six values have no such interval: even their extremes hold the median less often.

All this is for a number of values that does not depend on them. Whoever goes on until the interval is narrow chooses
narrow ones, which hold the median less often: in at least 90 % of the tests' draws.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist, median

import numpy as np

from dist_llm.seeding import generator

CONFIDENCE = 0.95
FEWEST = 6  # values with an interval: 1 - 2 / 2^5 is less than 0.95
RESAMPLES = 2000


def median_interval(values: Sequence[float]) -> list[float] | None:
    """Return the lower and the upper end of the median's interval; None with too few values."""
    n, x = len(values), sorted(values)
    if n < FEWEST:
        return None
    k = 1
    while _coverage(n, k + 1) >= CONFIDENCE:
        k += 1
    wide, narrow = _coverage(n, k), _coverage(n, k + 1)
    inward = (wide - CONFIDENCE) / (wide - narrow)
    weight = (n - k) * inward / (k + (n - 2 * k) * inward)
    return [(1 - weight) * x[k - 1] + weight * x[k], (1 - weight) * x[n - k] + weight * x[n - k - 1]]


def _coverage(n: int, k: int) -> float:
    """Return how often the k-th smallest and the k-th largest of n values enclose the median."""
    return 1 - math.ldexp(sum(math.comb(n, i) for i in range(k)), 1 - n)


def ratio_interval(new: Sequence[float], old: Sequence[float]) -> list[float] | None:
    """Return the interval of the ratio of two medians, new / old, of independent measurements; None with too few.

    The logarithm of the ratio, plus and minus 1.96 bootstrap standard errors (Efron and Tibshirani 1993, An
    Introduction to the Bootstrap, chapters 6 and 13): with values as few as these, the percentiles of resampled
    medians, each of them one of the values, hold the truth more often than they say.
    """
    if min(len(new), len(old)) < FEWEST:
        return None
    rng = generator(1, "bootstrap")
    logs = [np.log(np.median(rng.choice(values, (RESAMPLES, len(values))), axis=1)) for values in (new, old)]
    error = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * float(np.std(logs[0] - logs[1]))
    middle = math.log(median(new) / median(old))
    return [math.exp(middle - error), math.exp(middle + error)]
