"""Laws of scaling, fitted to measured speed-ups.

Amdahl (1967), fixed work: of the time on one core, a share s does not get shorter with n cores:

    1 / S(n) = s + (1 - s) / n

Gustafson (1988), work that grows with the cores: of the time on n cores, a share s is not shared out:

    S(n) = n - s (n - 1)

Karp and Flatt (1990): what s each single point says. Where it grows with n, the loss is no fixed serial part, but
something that comes with the cores: communication, imbalance, memory bandwidth.

A share below zero means more than n-fold speed on n cores, as when what a core works on comes to fit its cache.
"""

from collections.abc import Sequence

import numpy as np


def amdahl(cores: Sequence[float], speed_ups: Sequence[float]) -> float:
    """Return the serial share that fits best, by least squares in 1 / S, which is linear in it.

    Parameters
    ----------
    cores : sequence of float
        Relative to those of speed-up 1; at least one above 1.
    speed_ups : sequence of float
    """
    n, s = np.asarray(cores, float), np.asarray(speed_ups, float)
    x = 1 - 1 / n
    return float(x @ (1 / s - 1 / n) / (x @ x))


def gustafson(cores: Sequence[float], speed_ups: Sequence[float]) -> float:
    """Return the serial share that fits best, by least squares in S; as `amdahl`."""
    n, s = np.asarray(cores, float), np.asarray(speed_ups, float)
    x = n - 1
    return float(x @ (n - s) / (x @ x))


def karp_flatt(cores: float, speed_up: float) -> float:
    """Return the serial share that one speed-up on more than one core stands for."""
    return (1 / speed_up - 1 / cores) / (1 - 1 / cores)
