"""Axes for losses: tokens below, time above, and a height that the first steps and spikes do not spoil."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm.training.loss_history import FEW_POINTS, LossHistory, Points, rounded_down

USUAL, SPOILED = 0.98, 1.25  # what is higher than that part of the losses is cut off if they get so much more room
CLOSE = 0.08  # of the width, between two ticks
MOST_MARKS = 60  # evaluations that are marked, or other marks side by side
TIME = "time in steps and evaluations"
TOKENS = (("", 1.0), ("thousand", 1e3), ("million", 1e6), ("billion", 1e9), ("trillion", 1e12))
TIMES = (("seconds", 1.0), ("minutes", 60.0), ("hours", 3600.0), ("days", 86400.0))


def usual_top(points: Points) -> float:
    """Return how high the losses are but for the first tenth of the tokens, and for rare spikes."""
    losses = np.array(points.losses)
    if len(losses) < FEW_POINTS:
        return float(losses.max())
    late = losses[np.array(points.tokens) >= points.tokens[-1] / 10]
    return float(np.quantile(late, USUAL, method="higher"))


def limits(curves: Sequence[Points], top: float) -> tuple[float, float]:
    """Return the least and the greatest loss to show, where those up to `top` must be seen well."""
    lowest, highest = (least_or_most(least_or_most(c.losses) for c in curves) for least_or_most in (min, max))
    if highest - lowest <= SPOILED * (top - lowest):
        top = highest
    room = max(0.05 * (top - lowest), 0.01 * abs(top)) or 0.05
    return lowest - room, top + room


def mark_best(axes: Any, x: float, loss: float, color: str, size: float) -> None:
    """Put a star at the best evaluation."""
    axes.plot(x, loss, "*", color=color, markersize=size, markeredgecolor="white", zorder=3)


def show_losses(axes: Any, low: float, high: float) -> None:
    """Make the y axis one of losses."""
    from matplotlib.ticker import MaxNLocator

    axes.set_ylim(low, high)
    axes.set_ylabel("loss (nats per token)")
    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")


def show_tokens(axes: Any, most: float) -> None:
    """Make the x axis one of tokens, from 0 to the most that are seen."""
    word, unit = _unit(most, TOKENS)
    axes.set_xlabel(f"tokens seen ({word}s)" if word else "tokens seen")
    _show(axes, most, unit)


def show_time(axes: Any, most: float) -> None:
    """Make the x axis one of time, from 0 to the most seconds that are spent."""
    word, unit = _unit(most / 2, TIMES)
    axes.set_xlabel(f"{TIME} ({word})")
    _show(axes, most, unit)


def _show(axes: Any, most: float, unit: float) -> None:
    ticks = _ticks(most / unit)
    axes.set_xlim(0, 1.02 * most or 1.0)
    axes.set_xticks([tick * unit for tick in ticks], list(ticks.values()))
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def add_time(axes: Any, history: LossHistory) -> None:
    """Add a time axis above one of tokens: a tick is where the run was at that time."""
    seconds, tokens = history.times()
    word, unit = _unit(seconds[-1] / 2, TIMES)
    labels: dict[float, str] = {}
    for tick, text in _ticks(seconds[-1] / unit).items():
        place = float(np.interp(tick * unit, seconds, tokens))
        if not labels or place - max(labels) >= CLOSE * axes.get_xlim()[1]:
            labels[place] = text
    above = axes.secondary_xaxis("top")
    above.set_xticks(list(labels), list(labels.values()))
    above.set_xlabel(f"{TIME} ({word})")


def _ticks(most: float) -> dict[float, str]:
    """Return round numbers from 0 to the most, four to nine of them, and how they are written."""
    if most < 1e-9:
        return {0.0: "0"}
    step = rounded_down(most / 3.5)
    digits = max(0, -math.floor(math.log10(step)))
    return {i * step: f"{i * step:.{digits}f}" for i in range(math.floor(most / step) + 1)}


def amount(tokens: float) -> str:
    """2e4 -> "20 thousand"."""
    word, unit = _unit(tokens, TOKENS)
    return f"{tokens / unit:.3g} {word}".rstrip()


def _unit(most: float, units: Sequence[tuple[str, float]]) -> tuple[str, float]:
    return next((unit for unit in reversed(units) if most >= unit[1]), units[0])
