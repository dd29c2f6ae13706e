"""The report as a picture: a panel of bars for each task."""

import os
from pathlib import Path
from typing import Any

from dist_llm.benchmarking.contestants import TASKS

COLORS = {"numpy": "tab:blue"}


def draw(report: dict[str, Any], path: Path) -> bool:
    """Draw the speeds with their spread; return False without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    panels = {key: [c for c in report["contestants"] if c["task"] == key] for key in TASKS}
    panels = {key: chosen for key, chosen in panels.items() if chosen}
    if not panels:
        return False
    heights = [1.0 + 0.45 * len(chosen) for chosen in panels.values()]
    figure = Figure(figsize=(8, sum(heights) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{report['parameters']:,} parameters, {report['machine']['cores']} cores", fontsize=11)
    all_axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (key, chosen) in zip(all_axes, panels.items(), strict=True):
        _panel(axes, chosen)
        axes.set_title(TASKS[key].title, fontsize=10, loc="left")
        axes.set_xlabel(f"{TASKS[key].unit}: median, least and most over the rounds", fontsize=8)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="png", dpi=120)
    os.replace(temporary, path)
    return True


def _panel(axes: Any, contestants: list[dict[str, Any]]) -> None:
    medians = [c["speed"]["median"] for c in contestants]
    below = [c["speed"]["median"] - c["speed"]["min"] for c in contestants]
    above = [c["speed"]["max"] - c["speed"]["median"] for c in contestants]
    labels = [f"{c['name']}  ({c['processes']} x {c['threads']})" for c in contestants]
    colors = [COLORS.get(c["kind"], "tab:orange") for c in contestants]
    axes.barh(labels, medians, xerr=[below, above], color=colors, alpha=0.8, ecolor="black", capsize=3)
    for row, c in enumerate(contestants):
        if c["mfu"] is not None:
            axes.text(0, row, f"  {100 * c['mfu']['median']:.0f} % of peak", va="center", color="white", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
