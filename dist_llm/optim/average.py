"""An exponential moving average of the weights (Polyak and Juditsky 1992), which is what is evaluated and saved.

    average = d average + (1 - d) weights        d = min(decay, (1 + step) / (10 + step))

Weights in training tumble about in a valley: their average lies lower, near where a decay of the learning rate would
take them. The first averages are short, or the random weights would stay in them for long.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

CHUNK = 1 << 14  # elements: weights, average and scratch of a chunk stay in the cache


class WeightAverage:
    """The average, as much memory as the weights.

    Parameters
    ----------
    weights : ndarray of shape (P,)
        The flat buffer of the parameters; the average begins with what is in it.
    decay : float

    Attributes
    ----------
    data : ndarray of shape (P,)
        The average, in the order of the weights.
    """

    def __init__(self, weights: np.ndarray, decay: float) -> None:
        self._weights, self._decay = weights, decay
        self.data = weights.copy()

    def update(self, step: int) -> None:
        """Take the weights after a step, counted from 1, into the average."""
        share = 1 - min(self._decay, (1 + step) / (10 + step))
        difference = np.empty(CHUNK, self.data.dtype)
        for start in range(0, self.data.size, CHUNK):
            average = self.data[start : start + CHUNK]
            change = np.subtract(self._weights[start : start + CHUNK], average, out=difference[: average.size])
            change *= share
            average += change

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let the average and the weights change places."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for start in range(0, self.data.size, CHUNK):
            chunk = slice(start, start + CHUNK)
            kept = self.data[chunk].copy()
            self.data[chunk] = self._weights[chunk]
            self._weights[chunk] = kept
