"""The report as a picture: a panel of bars for each task."""

from collections.abc import Sequence
from typing import Any

from dist_llm.benchmarking.contestants import TASKS
from dist_llm.benchmarking.results import Report, Result
from dist_llm.measuring.plotting import error_bars, figure


def draw(report: Report) -> bytes | None:
    """Return the speeds with their spread as a PNG; None without matplotlib or without speeds."""
    panels = {key: [c for c in report.contestants if c.task == key] for key in TASKS}
    panels = {key: chosen for key, chosen in panels.items() if chosen}
    if not panels:
        return None
    heights = [1.0 + 0.45 * len(chosen) for chosen in panels.values()]
    pictures: dict[str, bytes] = {}
    with figure(8, sum(heights) + 0.3, pictures) as drawn:
        if drawn is not None:
            drawn.suptitle(f"{report.parameters:,} parameters, {report.machine.local_cores} cores", fontsize=11)
            all_axes = drawn.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
            for axes, (key, chosen) in zip(all_axes, panels.items(), strict=True):
                _panel(axes, chosen)
                axes.set_title(TASKS[key].title, fontsize=10, loc="left")
                axes.set_xlabel(f"{TASKS[key].unit}: median, least and most over the rounds", fontsize=8)
    return pictures.get("png")


def _panel(axes: Any, results: Sequence[Result]) -> None:
    speeds = [c.speed for c in results]
    labels = [f"{c.name}  ({c.processes} x {c.threads})" for c in results]
    colors = ["tab:blue" if c.package == "dist_llm" else "tab:orange" for c in results]
    medians, look = [s.median for s in speeds], {"alpha": 0.8, "ecolor": "black", "capsize": 3}
    axes.barh(labels, medians, xerr=error_bars(speeds), color=colors, **look)
    for row, c in enumerate(results):
        if c.mfu is not None:
            axes.text(0, row, f"  {c.mfu.middle(0, 100)} % of peak", va="center", color="white", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
