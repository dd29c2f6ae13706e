"""The losses of a run by tokens and by time, as its metrics tell them; in few points, however long the run is.

    time of step n    s_n = sum over i <= n of (tokens_i - tokens_(i-1)) / (tokens per second)_i
                            + the evaluations before step n
    moving average    m_n = sum over i <= n of w_ni loss_i / sum over i <= n of w_ni
                     w_ni = 2^(-(tokens_n - tokens_i) / half-life)

The average looks back only, and holds for uneven steps too (Zumbach and Mueller, "Operators on Inhomogeneous Time
Series", 2001). What a resumed run did again counts once, as in the metrics.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

MOST_POINTS = 4096  # several to each column of a picture; even
FEW_POINTS = 20  # have no average
LARGEST = 1e38  # above all losses of float32


class Point(NamedTuple):
    """A loss, after so many tokens and seconds."""

    tokens: float
    seconds: float
    loss: float


class Points:
    """A curve: each point is the mean of so many losses in a row, of twice as many when there would be too many points.

    Attributes
    ----------
    each : int
        Losses in a point; the last one may have fewer.
    tokens, seconds : list of float
        At the last loss of each point.
    losses : list of float
    best : Point or None
        The first with the least of all losses, as it was.
    """

    def __init__(self) -> None:
        self.best: Point | None = None
        self.tokens: list[float] = []
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.each = self._in_last = 1

    def __len__(self) -> int:
        return len(self.losses)

    def add(self, point: Point) -> None:
        """Add the next loss."""
        if self.best is None or point.loss < self.best.loss:
            self.best = point
        if not self.losses or self._in_last == self.each:
            if len(self) == MOST_POINTS:
                self._halve()
            self._in_last = 0
            for values in (self.tokens, self.seconds, self.losses):
                values.append(0.0)
        self._in_last += 1
        self.tokens[-1], self.seconds[-1] = point.tokens, point.seconds
        self.losses[-1] += (point.loss - self.losses[-1]) / self._in_last

    def _halve(self) -> None:
        pairs = zip(self.losses[::2], self.losses[1::2], strict=True)
        self.losses = [(first + second) / 2 for first, second in pairs]
        self.tokens, self.seconds = self.tokens[1::2], self.seconds[1::2]
        self.each *= 2

    def half_life(self) -> float | None:
        """Return the half-life in tokens that suits the curve: 1, 2 or 5 times a power of ten; None for few points.

        It is about a hundredth of the tokens, and more than one point.
        """
        if len(self) < FEW_POINTS:
            return None
        return rounded_down(max(0.02, 3 / len(self)) * self.tokens[-1])

    def averaged(self) -> list[float]:
        """Return the moving average, or the losses themselves if they are few."""
        half_life = self.half_life()
        return self.losses if half_life is None else moving_average(self.tokens, self.losses, half_life)


class LossHistory:
    """The losses of a run, and when it had them.

    Attributes
    ----------
    train, val : Points
        In steps, and at evaluations.
    tokens, seconds : float
        Trained on, and spent in steps and evaluations, so far.
    ranks : set of int
        With how many ranks it was trained.
    """

    def __init__(self) -> None:
        self.train, self.val = Points(), Points()
        self.tokens = self.seconds = 0.0
        self.ranks: set[int] = set()

    def add(self, record: dict[str, Any]) -> None:
        """Add the next record of the metrics.

        Raises
        ------
        ValueError
            Tokens or time go back.
        """
        tokens, loss = float(int(record["tokens"])), record["loss"]
        # A record may stand for several steps, all taken to be as fast as the last.
        spent, evaluating = (tokens - self.tokens) / record["tokens_per_s"], float(record.get("val_seconds", 0))
        if not (max(1, self.tokens) <= tokens < LARGEST and 0 <= spent < LARGEST and 0 <= evaluating < LARGEST):
            raise ValueError("tokens or time go back")
        self.tokens, self.seconds = tokens, self.seconds + spent
        if loss is not None and abs(loss) < LARGEST:
            self.train.add(Point(self.tokens, self.seconds, float(loss)))
        self.seconds += evaluating
        if abs(record.get("val_loss", LARGEST)) < LARGEST:
            self.val.add(Point(self.tokens, self.seconds, float(record["val_loss"])))
        if "rss_bytes" in record:  # of each rank
            self.ranks.add(len(record["rss_bytes"]))

    def times(self) -> tuple[list[float], list[float]]:
        """Return seconds, from 0 on, and the tokens at each; between them the run was evenly fast.

        During an evaluation the tokens stay the same.
        """
        curves = [zip(points.seconds, points.tokens, strict=True) for points in (self.train, self.val)]
        seconds, tokens = zip(*sorted([(0.0, 0.0), *curves[0], *curves[1]]), strict=True)
        return list(seconds), list(tokens)


def moving_average(tokens: Sequence[float], losses: Sequence[float], half_life: float) -> list[float]:
    """Return the exponential moving average of losses: at each, of those up to it, by the equation above."""
    averages, total, weight, before = [], 0.0, 0.0, 0.0
    for now, loss in zip(tokens, losses, strict=True):
        decay = 0.5 ** ((now - before) / half_life)
        total, weight, before = decay * total + loss, decay * weight + 1, now
        averages.append(total / weight)
    return averages


def rounded_down(value: float) -> float:
    """Return the largest of ..., 0.5, 1, 2, 5, 10, ... that is not above a positive value."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(digit * power for digit in (1, 2, 5) if digit * power <= value or digit == 1)
