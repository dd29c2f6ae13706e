"""Which point to start, in a sentence.

From the fewest cores on, more are taken if the speed that they add is worth it:

    (speed / speed before - 1) / (cores / cores before - 1) >= 1/2

with the speed relative to the reference, round by round. Of several ways to use as many cores, it is the one of fewest
processes that is not distinguishable from the fastest.
"""

from collections.abc import Sequence
from itertools import groupby

from dist_llm.measuring.confidence import ratio_interval
from dist_llm.measuring.tables import count
from dist_llm.scalability.analysis import PointResult, SeriesResult
from dist_llm.scalability.time_to_loss import ToLoss

WORTH = 0.5  # what the speed has to grow by, relative to what the cores do
NOTHING = 0.005  # a gain in speed that is not called one


def recommendation(series: Sequence[SeriesResult], usual_batch: int, to_loss: ToLoss | None = None) -> str:
    """Return the sentence, or why there is none; the series of a fixed batch counts, if there is one."""
    measured = sorted((one for one in series if one.points), key=lambda one: one.mode != "strong")
    if not measured:
        return "no recommendation: nothing was measured"
    chosen, doubt = measured[0], _doubt(measured[0])
    if doubt:
        return f"no recommendation: {doubt}"
    able = [p for p in chosen.points if not p.oversubscribed]
    best_of_cores = [_best(list(points)) for _, points in groupby(able, key=lambda p: p.cores)]
    start = best_of_cores[0]
    for p in best_of_cores[1:]:
        if _gain(start, p) >= WORTH * (p.cores / start.cores - 1):
            start = p
    more = next((p for p in best_of_cores if p.cores > start.cores), None)
    batch, learning = _learning(start, usual_batch, to_loss) if to_loss else ("", "")
    reason = _instead(start, more) if more else _gained(start, best_of_cores[0])
    where = "these machines" if start.hosts > 1 else "this machine"
    growing = " (weak scaling)" * (chosen.mode == "weak")
    return f"recommendation{growing}: on {where} start {_named(start)}{batch}{reason}{learning}"


def _doubt(series: SeriesResult) -> str:
    """Return why nothing is recommended; "" if something may be: any point in doubt could be the best."""
    if series.losses and series.losses.equal is False:
        return "the points do not come to the same loss"
    able = [p for p in series.points if not p.oversubscribed]
    if not able:
        return "all points are oversubscribed"
    doubtful = [p.point for p in able if p.doubt or p.speed_up is None]
    return f"without results of {', '.join(doubtful)} it is not known which is best" if doubtful else ""


def _best(points: Sequence[PointResult]) -> PointResult:
    """Return the best of points of as many cores."""
    fastest = max(points, key=_speed)
    return min((p for p in points if p is fastest or not _beats(fastest, p)), key=lambda p: p.ranks)


def _beats(fastest: PointResult, p: PointResult) -> bool:
    """Return whether a point is distinguishably faster than another of as many cores."""
    if p.ranks == 1 and fastest.to_one_process and fastest.to_one_process.interval:
        return fastest.to_one_process.interval[0] > 1  # compared round by round
    interval = ratio_interval(fastest.tokens_per_s.rounds, p.tokens_per_s.rounds)
    return interval is not None and interval[0] > 1


def _gain(before: PointResult, after: PointResult) -> float:
    return _speed(after) / _speed(before) - 1


def _speed(p: PointResult) -> float:
    assert p.speed_up is not None  # or the point is in doubt
    return p.speed_up.median


def _learning(start: PointResult, usual: int, to_loss: ToLoss) -> tuple[str, str]:
    """Return which batch to learn from, and what it takes to come to the loss."""
    best, loss = to_loss.best_batch(start.point, usual), f"a validation loss of {to_loss.loss:g}"
    if best is None:
        return "", f"; no batch size came to {loss}"
    batch, point = best
    return f" with batches of {count(batch.batch_size, 'sequence')}", f"; {loss} takes {point.seconds.middle(1)} s so"


def _instead(start: PointResult, more: PointResult) -> str:
    """Return what the next larger number of cores would bring, for which it is not chosen."""
    gain, alternative = _gain(start, more), f"; {_named(more)} would"
    if gain < -NOTHING:
        return f"{alternative} be {-100 * gain:.0f} % slower"
    brought = f"{100 * gain:.0f} % more speed" if gain > NOTHING else "no more speed"
    return f"{alternative} bring {brought} for {_times(more.cores / start.cores)} the cores"


def _gained(start: PointResult, first: PointResult) -> str:
    """Return what all cores bring, where they are chosen."""
    if start is first:
        return "; nothing with more cores was measured"
    speed = 1 + _gain(first, start)
    return f", {speed:.2f} times as fast as {_named(first)} on {_times(start.cores / first.cores)} the cores"


def _named(p: PointResult) -> str:
    threads = f"of {count(p.threads, 'thread')}"
    return f"one process {threads}" if p.ranks == 1 else f"{p.ranks:,} ranks {threads}"


def _times(factor: float) -> str:
    return "twice" if factor == 2 else f"{factor:.3g} times"
