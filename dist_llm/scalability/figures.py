"""The report as a picture: speed-up, efficiency, where the time goes, what networks would do, and time to a loss."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dist_llm.measuring.plotting import (
    FONT,
    INK,
    PAPER,
    SERIES,
    TINTS,
    WIDTH,
    Drawing,
    Label,
    Picture,
    draw,
    error_bars,
)
from dist_llm.measuring.tables import between, count
from dist_llm.scalability.analysis import PHASES, PointResult
from dist_llm.scalability.projection import EFFICIENT
from dist_llm.scalability.report import Report
from dist_llm.scalability.time_to_loss import PointToLoss

COLORS = dict(zip(("strong", "weak"), SERIES, strict=False))
MARKERS = "osD^"
HEIGHT = 3.9  # inches, of a panel of lines
ROOM = 0.28  # of the x axis, at most, for the names at the ends of lines
CROWDED = 0.09  # of an axis: ticks that are nearer to each other are left out
LETTER = 0.64 * FONT  # points: the width of a digit, which most letters do not exceed


def draw_report(report: Report) -> Picture | None:
    """Return the picture; None without matplotlib or without anything to draw."""
    return draw([drawing for panel in PANELS if (drawing := panel(report)) is not None])


@dataclass(frozen=True)
class Line:
    """A line of a panel over cores, of two points or more."""

    name: str
    color: str
    style: str
    points: Sequence[PointResult | PointToLoss]


def _lines(report: Report, key: str) -> list[Line]:
    """Return the lines of a figure: of ranks, and of one process with threads on as many cores."""
    measured = [series for series in report.series if series.points]
    batches, lines = [series.sequences for series in measured], list[Line]()
    for i, series in enumerate(measured):
        threads = series.points[0].threads
        counted = [p for p in series.points if not (p.oversubscribed or p.doubt) and getattr(p, key)]
        ranks = f"{series.mode}, {threads} threads" if threads > 1 else series.mode
        lines.append(Line(ranks, COLORS[series.mode], "o-", [p for p in counted if p.threads == threads]))
        if batches.index(batches[i]) == i:  # else those of the series before are the same
            alone, color = "one process" if i == 0 else f"one process, {series.mode}", SERIES[2 + i]
            lines.append(Line(alone, color, "s--", [p for p in counted if p.ranks == 1]))
    return [line for line in lines if len(line.points) > 1]


def _over_cores(axes: Any, lines: Sequence[Line], key: str, factor: float, digits: int) -> list[Label]:
    """Draw a figure's medians over cores, and return the labels: the names at the ends of lines, then other values."""
    names, values = list[Label](), list[Label]()
    for number, line in enumerate(lines):
        spreads = [getattr(p, key) for p in line.points]
        cores, medians = [p.cores for p in line.points], [factor * s.median for s in spreads]
        look = {"fmt": line.style, "color": line.color, "capsize": 3, "markersize": 5}
        axes.errorbar(cores, medians, error_bars(spreads, factor), **look).lines[0].set_gid(f"line-{number}")
        *others, last = (s.middle(digits, factor) for s in spreads)
        names.append(Label(f"{line.name}: {last}", cores[-1], medians[-1], line.color, needed=True))
        values += [Label(*label, line.color) for label in zip(others, cores, medians, strict=False)][1:]
    _counts(axes, _cores(lines), names)
    axes.set_xlabel("cores in use (ranks x threads)")
    return names + values[::-1]


def _cores(lines: Sequence[Line]) -> list[int]:
    """Return the numbers of cores that any line has a point at."""
    return sorted({p.cores for line in lines for p in line.points})


def _counts(axes: Any, counts: Sequence[int], names: Sequence[Label]) -> None:
    """Make the x axis one of counts that double, with room at its end for most names."""
    longest = max(len(line) for name in names for line in name.text.split("\n"))
    share = min(ROOM, LETTER * (longest + 1) / (72 * WIDTH))
    octaves = math.log2(counts[-1] / counts[0])
    axes.set_xscale("log", base=2)
    axes.set_xlim(counts[0] * 2 ** (-0.08 * octaves), counts[-1] * 2 ** (octaves * share / (1 - share)))
    _ticks(axes.xaxis, counts)
    axes.grid()


def _ticks(axis: Any, ticks: Sequence[float]) -> None:
    """Mark those of the ticks of a logarithmic axis that do not crowd each other."""
    kept = list[float]()
    for tick in reversed(ticks):
        if not kept or kept[-1] / tick >= (ticks[-1] / ticks[0]) ** CROWDED:
            kept.append(tick)
    axis.set_ticks(kept, [f"{tick:,g}" for tick in kept])
    axis.set_ticks([], minor=True)


def _speed_up(report: Report) -> Drawing | None:
    lines = _lines(report, "speed_up")
    if not lines:
        return None

    def plot(axes: Any) -> list[Label]:
        cores = _cores(lines)
        ideal = [n / cores[0] for n in cores]
        axes.plot(cores, ideal, ":", color=INK, gid="ideal")
        labels = _over_cores(axes, lines, "speed_up", 1, 2)
        axes.margins(y=0.1)  # where labels find room
        axes.set_yscale("log", base=2)
        least, most = (math.log2(end) for end in axes.get_ylim())
        _ticks(axes.yaxis, [2.0**power for power in range(math.ceil(least), math.floor(most) + 1)])
        return [Label("ideal", cores[-1], ideal[-1], INK, needed=True), *labels]

    reference = next(series.reference for series in report.series if series.points)
    return Drawing(*_said(f"speed-up over {reference}", lines, "speed_up", 1, 2), HEIGHT, plot)


def _efficiency(report: Report) -> Drawing | None:
    lines = _lines(report, "efficiency")
    if not lines:
        return None

    def plot(axes: Any) -> list[Label]:
        cores = _cores(lines)
        axes.plot(cores, [100] * len(cores), ":", color=INK, gid="ideal")
        labels = _over_cores(axes, lines, "efficiency", 100, 1)
        axes.set_ylim(0, max(112, 1.05 * axes.get_ylim()[1]))
        return labels

    return Drawing(*_said("efficiency, %", lines, "efficiency", 100, 1), HEIGHT, plot)


def _said(title: str, lines: Sequence[Line], key: str, factor: float, digits: int) -> tuple[str, str]:
    """Return the title, which says whether there are intervals, and what the panel shows in words."""
    if any(getattr(p, key).interval for line in lines for p in line.points):
        title += ", with 95 % intervals"
    values = {
        line.name: (f"{getattr(p, key).middle(digits, factor)} on {count(p.cores, 'core')}" for p in line.points)
        for line in lines
    }
    lines_in_words = (f"{name}: {', '.join(each)}" for name, each in values.items())
    return title, f"{title}. {'; '.join(lines_in_words)}"


def _shares(report: Report) -> Drawing | None:
    rows = [(f"{s.mode} {p.point}{_mark(p)}", p) for s in report.series for p in s.points]
    if not rows:
        return None

    names = [name for name, _ in rows]
    bars_width = 72 * WIDTH - LETTER * (3 + max(map(len, names)))  # points
    fits = 100 * 4.5 * LETTER / bars_width  # percent: a shorter bar has no room for its number

    def plot(axes: Any) -> list[Label]:
        left = [0.0] * len(rows)
        for phase, color in zip(PHASES, TINTS, strict=True):
            widths = [100 * p.shares[phase].median for _, p in rows]
            bars = axes.barh(names, widths, left=left, color=color, edgecolor=PAPER, label=phase)
            axes.bar_label(bars, [f"{w:.1f}" if w >= fits else "" for w in widths], label_type="center")
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.margins(y=0.01)
        axes.invert_yaxis()
        axes.set_xlim(0, max(100, *left))  # medians need not add up to the whole
        axes.set_xlabel("% of a step, the mean over ranks")
        axes.figure.legend(ncols=3, loc="outside upper left", columnspacing=1.5, handlelength=1.4)
        return []

    title = "where the time goes"
    words = "; ".join(
        f"{name}: {', '.join(f'{phase} {p.shares[phase].middle(1, 100)} %' for phase in PHASES)}" for name, p in rows
    )
    return Drawing(title, f"{title}: {words}", 1.2 + 0.25 * len(rows), plot)


def _mark(p: PointResult) -> str:
    return " (no result)" if p.doubt else " (oversubscribed)" if p.oversubscribed else ""


def _projected(report: Report) -> Drawing | None:
    model = report.communication
    if model is None or not model.projections:
        return None
    projections, ranks = model.projections, [row.ranks for row in model.projections[0].rows]

    def plot(axes: Any) -> list[Label]:
        axes.plot(ranks, [100 * EFFICIENT] * len(ranks), ":", color=INK, gid="ideal")
        labels = []
        for i, projection in enumerate(projections):
            color, style = _nth_look(i)
            least, most = ([100 * row.weak_efficiency[end] for row in projection.rows] for end in (0, 1))
            axes.plot(ranks, most, style, color=color, markersize=4, gid=f"line-{i}")
            if least != most:
                axes.fill_between(ranks, least, most, color=color, alpha=0.2, linewidth=0)
            name = f"{projection.network}\n{between([least[-1], most[-1]], 0)}"
            labels.append(Label(name, ranks[-1], most[-1], color, needed=True))
        _counts(axes, ranks, labels)
        axes.set_ylim(0, 105)
        axes.set_xlabel("ranks")
        return labels

    title = "projected weak efficiency, % (not measured)"
    words = "; ".join(
        f"{p.network}: " + ", ".join(f"{100 * row.weak_efficiency[1]:.0f} on {row.ranks}" for row in p.rows)
        for p in projections
    )
    return Drawing(title, f"{title}: {words}", HEIGHT, plot)


def _nth_look(i: int) -> tuple[str, str]:
    """Return the color and the style of the i-th of any number of lines."""
    again, which = divmod(i, len(SERIES))
    return SERIES[which], MARKERS[which] + ("-", "--", "-.")[again % 3]


def _time_to_loss(report: Report) -> Drawing | None:
    if report.to_loss is None:
        return None
    lines = []
    for i, batch in enumerate(report.to_loss.batches):
        ranks = [p for p in batch.points if p.threads == batch.points[0].threads]
        lines.append(Line(f"batch {batch.batch_size}", *_nth_look(i), ranks))
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return None

    def plot(axes: Any) -> list[Label]:
        labels = _over_cores(axes, lines, "seconds", 1, 1)
        axes.set_yscale("log")
        axes.margins(y=0.2)  # where labels find room
        least, most = axes.get_ylim()
        powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)))
        ticks = [digit * 10.0**power for power in powers for digit in (1, 1.5, 2, 3, 4, 5, 7)]
        _ticks(axes.yaxis, [tick for tick in ticks if least <= tick <= most])
        return labels

    return Drawing(*_said(f"seconds to a loss of {report.to_loss.loss:g}", lines, "seconds", 1, 1), HEIGHT, plot)


PANELS: tuple[Callable[[Report], Drawing | None], ...] = (
    _speed_up, _efficiency, _shares, _projected, _time_to_loss,
)  # fmt: skip
