"""The report as a picture: speed-up against the ideal, efficiency, where the time goes, and what a network would do."""

import io
from typing import Any

from dist_llm.scalability.analysis import PHASES
from dist_llm.scalability.projection import EFFICIENT

COLORS = {"strong": "tab:blue", "weak": "tab:orange"}
PHASE_COLORS = ("tab:blue", "tab:red", "tab:orange", "tab:olive", "tab:green", "tab:gray")


def draw(report: dict[str, Any]) -> dict[str, bytes]:
    """Return the picture as ``png`` and ``svg``; nothing without matplotlib or without points."""
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return {}
    measured = [series for series in report["series"] if series["points"]]
    if not measured:
        return {}
    n_points = sum(len(series["points"]) for series in measured)
    # Words stay words in the SVG, to be searched and selected; and the same report gives the same bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "dist_llm", "font.size": 9}):
        figure = Figure(figsize=(11, 6.5 + 0.22 * n_points), layout="constrained")
        FigureCanvasAgg(figure)
        heights = [3.2, 1.6 + 0.22 * n_points]
        (top_left, top_right), (bottom_left, bottom_right) = figure.subplots(2, 2, height_ratios=heights)
        _speed_ups(top_left, measured)
        _efficiencies(top_right, measured)
        _shares(bottom_left, measured)
        _projections(bottom_right, report["communication"])
        pictures = {}
        for kind, metadata in (("png", {}), ("svg", {"Date": None})):
            file = io.BytesIO()
            figure.savefig(file, format=kind, dpi=120, metadata=metadata)
            pictures[kind] = file.getvalue()
    return pictures


def _counted(series: dict[str, Any], several_ranks: bool) -> list[dict[str, Any]]:
    """Return the points of ranks with the reference's threads, or else those of one process with several."""
    first = series["points"][0]
    counted = [p for p in series["points"] if not p["oversubscribed"] and p["speed_up"]]
    if several_ranks:
        return [p for p in counted if p["threads"] == first["threads"]]
    return [p for p in counted if p["ranks"] == 1]


def _drawn(measured: list[dict[str, Any]]) -> list[tuple[dict[str, Any], bool]]:
    """Return the series, and of each whether its single processes are others than those of the one before."""
    batches = [series["sequences"] for series in measured]
    return [(series, batches.index(batches[i]) == i) for i, series in enumerate(measured)]


def _lines(axes: Any, series: dict[str, Any], key: str, factor: float, annotate: str, alone: bool) -> None:
    first, mode = series["points"][0], series["mode"]
    threads = f"ranks of {first['threads']} thread{'s' * (first['threads'] > 1)}"
    for several, style, name in ((True, "o-", threads), (False, "s--", "one process, BLAS threads")):
        points = _counted(series, several)
        if len(points) < 2 or not (several or alone):
            continue
        cores = [p["cores"] for p in points]
        medians = [factor * p[key]["median"] for p in points]
        below = [m - factor * p[key]["min"] for m, p in zip(medians, points, strict=True)]
        above = [factor * p[key]["max"] - m for m, p in zip(medians, points, strict=True)]
        alpha = 1.0 if several else 0.55
        axes.errorbar(
            cores,
            medians,
            [below, above],
            fmt=style,
            color=COLORS[mode],
            alpha=alpha,
            capsize=3,
            label=f"{mode}, {name}" if several else name,
        )
        if several:
            dy = 3 if mode == "strong" else -11
            for x, y in list(zip(cores, medians, strict=True))[1:]:
                axes.annotate(format(y, annotate), (x, y), (7, dy), textcoords="offset points", color=COLORS[mode])


def _on_cores(axes: Any, measured: list[dict[str, Any]]) -> list[int]:
    cores = sorted({p["cores"] for series in measured for p in series["points"] if not p["oversubscribed"]})
    axes.set_xscale("log", base=2)
    axes.set_xticks(cores, [str(n) for n in cores])
    axes.minorticks_off()
    axes.margins(x=0.12)
    axes.set_xlabel("cores in use (ranks x threads)")
    axes.grid(alpha=0.3)
    return cores


def _speed_ups(axes: Any, measured: list[dict[str, Any]]) -> None:
    cores = _on_cores(axes, measured)
    base = measured[0]["points"][0]["cores"]
    axes.plot(cores, [n / base for n in cores], ":", color="black", label="ideal")
    for series, alone in _drawn(measured):
        _lines(axes, series, "speed_up", 1, ".2f", alone)
    axes.set_yscale("log", base=2)
    axes.set_yticks([n / base for n in cores], [f"{n / base:g}" for n in cores])
    axes.minorticks_off()
    axes.set_title(f"speed-up over {measured[0]['reference']}, least and most over the rounds", loc="left")
    axes.legend()


def _efficiencies(axes: Any, measured: list[dict[str, Any]]) -> None:
    _on_cores(axes, measured)
    axes.axhline(100, linestyle=":", color="black")
    for series, alone in _drawn(measured):
        _lines(axes, series, "efficiency", 100, ".1f", alone)
    axes.set_ylim(0, max(110, axes.get_ylim()[1]))
    axes.set_title("efficiency, %", loc="left")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left")


def _shares(axes: Any, measured: list[dict[str, Any]]) -> None:
    points = [(f"{series['mode']} {p['point']}", p) for series in measured for p in series["points"]]
    labels = [label + " (over)" * p["oversubscribed"] for label, p in points]
    left = [0.0] * len(points)
    for phase, color in zip(PHASES, PHASE_COLORS, strict=True):
        widths = [100 * p["shares"][phase] for _, p in points]
        bars = axes.barh(labels, widths, left=left, color=color, label=phase, alpha=0.85)
        axes.bar_label(bars, [f"{w:.1f}" if w >= 4 else "" for w in widths], label_type="center", color="white")
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("% of a step, the mean over ranks")
    axes.set_title("where the time goes", loc="left")
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18), frameon=False)


def _projections(axes: Any, model: dict[str, Any] | None) -> None:
    axes.set_title("projected weak efficiency, % (not measured)", loc="left")
    if not model or not model["projections"]:
        axes.text(0.5, 0.5, "nothing to project from", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    for number, projection in enumerate(model["projections"]):
        ranks = [row["ranks"] for row in projection["rows"]]
        least, most = ([100 * row["weak_efficiency"][i] for row in projection["rows"]] for i in (0, 1))
        color = f"C{number}"
        axes.plot(ranks, most, "o-", color=color, markersize=3, label=projection["network"])
        axes.fill_between(ranks, least, most, color=color, alpha=0.25)
    axes.axhline(100 * EFFICIENT, linestyle=":", color="black")
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [f"{n:,}" for n in ranks])
    axes.minorticks_off()
    axes.set_ylim(0, 102)
    axes.set_xlabel("ranks")
    axes.grid(alpha=0.3)
    band = "\nband: from nothing hidden to all that can be" * model["traffic"]["overlaps"]
    axes.legend(title=f"network{band}", loc="lower left")
