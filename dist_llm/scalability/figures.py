"""The report as a picture: speed-up against the ideal, efficiency, where the time goes, and what a network would do."""

from collections.abc import Sequence
from typing import Any

from dist_llm.measuring.plotting import error_bars, figure
from dist_llm.scalability.analysis import PHASES, PointResult, SeriesResult
from dist_llm.scalability.projection import EFFICIENT
from dist_llm.scalability.report import Communication, Report

COLORS = {"strong": "tab:blue", "weak": "tab:orange"}
PHASE_COLORS = ("tab:blue", "tab:red", "tab:orange", "tab:olive", "tab:green", "tab:gray")


def draw(report: Report) -> dict[str, bytes]:
    """Return the picture as ``png`` and ``svg``; nothing without matplotlib or without points."""
    measured = [series for series in report.series if series.points]
    pictures: dict[str, bytes] = {}
    if not measured:
        return pictures
    bars = 0.22 * sum(len(series.points) for series in measured)
    with figure(11, 6.5 + bars, pictures) as drawn:
        if drawn is not None:
            (speed_ups, efficiencies), (shares, projections) = drawn.subplots(2, 2, height_ratios=[3.2, 1.6 + bars])
            _speed_ups(speed_ups, measured)
            _efficiencies(efficiencies, measured)
            _shares(shares, measured)
            _projections(projections, report.communication)
    return pictures


def _counted(series: SeriesResult, several_ranks: bool) -> list[PointResult]:
    """Return the points of ranks with the reference's threads, or else those of one process with several."""
    first = series.points[0]
    counted = [p for p in series.points if not p.oversubscribed and p.speed_up]
    return [p for p in counted if (p.threads == first.threads if several_ranks else p.ranks == 1)]


def _lines(axes: Any, measured: Sequence[SeriesResult], key: str, factor: float, digits: int) -> None:
    batches = [series.sequences for series in measured]
    for i, series in enumerate(measured):
        first, mode = series.points[0], series.mode
        threads = f"{mode}, ranks of {first.threads} thread{'s' * (first.threads > 1)}"
        for several, style, name in ((True, "o-", threads), (False, "s--", "one process, BLAS threads")):
            points = _counted(series, several)
            # The single processes of a series are those of the one before, if the batch is the same.
            if len(points) < 2 or not (several or batches.index(batches[i]) == i):
                continue
            cores, spreads = [p.cores for p in points], [getattr(p, key) for p in points]
            medians, look = [factor * s.median for s in spreads], {"color": COLORS[mode], "label": name}
            alpha = 1.0 if several else 0.55
            axes.errorbar(cores, medians, error_bars(spreads, factor), fmt=style, capsize=3, alpha=alpha, **look)
            for p, s in list(zip(points, spreads, strict=True))[1:] if several else ():
                offset = (7, 3 if mode == "strong" else -11)
                place, label = (p.cores, factor * s.median), s.middle(digits, factor)
                axes.annotate(label, place, offset, textcoords="offset points", color=COLORS[mode])


def _on_cores(axes: Any, measured: Sequence[SeriesResult]) -> list[int]:
    cores = sorted({p.cores for series in measured for p in series.points if not p.oversubscribed})
    axes.set_xscale("log", base=2)
    axes.set_xticks(cores, [str(n) for n in cores])
    axes.minorticks_off()
    axes.margins(x=0.12)
    axes.set_xlabel("cores in use (ranks x threads)")
    axes.grid(alpha=0.3)
    return cores


def _speed_ups(axes: Any, measured: Sequence[SeriesResult]) -> None:
    cores = _on_cores(axes, measured)
    base = measured[0].points[0].cores
    axes.plot(cores, [n / base for n in cores], ":", color="black", label="ideal")
    _lines(axes, measured, "speed_up", 1, 2)
    axes.set_yscale("log", base=2)
    axes.set_yticks([n / base for n in cores], [f"{n / base:g}" for n in cores])
    axes.minorticks_off()
    axes.set_title(f"speed-up over {measured[0].reference}, least and most over the rounds", loc="left")
    axes.legend()


def _efficiencies(axes: Any, measured: Sequence[SeriesResult]) -> None:
    _on_cores(axes, measured)
    axes.axhline(100, linestyle=":", color="black")
    _lines(axes, measured, "efficiency", 100, 1)
    axes.set_ylim(0, max(110, axes.get_ylim()[1]))
    axes.set_title("efficiency, %", loc="left")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left")


def _shares(axes: Any, measured: Sequence[SeriesResult]) -> None:
    points = [(f"{s.mode} {p.point}{' (over)' * p.oversubscribed}", p) for s in measured for p in s.points]
    left = [0.0] * len(points)
    for phase, color in zip(PHASES, PHASE_COLORS, strict=True):
        widths = [100 * p.shares[phase].median for _, p in points]
        bars = axes.barh([label for label, _ in points], widths, left=left, color=color, label=phase, alpha=0.85)
        axes.bar_label(bars, [f"{w:.1f}" if w >= 4 else "" for w in widths], label_type="center", color="white")
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("% of a step, the mean over ranks")
    axes.set_title("where the time goes", loc="left")
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18), frameon=False)


def _projections(axes: Any, model: Communication | None) -> None:
    axes.set_title("projected weak efficiency, % (not measured)", loc="left")
    if not model or not model.projections:
        axes.text(0.5, 0.5, "nothing to project from", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    ranks = [row.ranks for row in model.projections[0].rows]
    for number, projection in enumerate(model.projections):
        least, most = ([100 * row.weak_efficiency[i] for row in projection.rows] for i in (0, 1))
        axes.plot(ranks, most, "o-", color=f"C{number}", markersize=3, label=projection.network)
        axes.fill_between(ranks, least, most, color=f"C{number}", alpha=0.25)
    axes.axhline(100 * EFFICIENT, linestyle=":", color="black")
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [f"{n:,}" for n in ranks])
    axes.minorticks_off()
    axes.set_ylim(0, 102)
    axes.set_xlabel("ranks")
    axes.grid(alpha=0.3)
    band = "\nband: from nothing hidden to all that can be" * model.traffic.overlaps
    axes.legend(title=f"network{band}", loc="lower left")
