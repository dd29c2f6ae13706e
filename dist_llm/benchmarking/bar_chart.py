"""The report as a picture: a panel of bars for each task."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm.benchmarking.contestants import TASKS
from dist_llm.benchmarking.results import Report, Result
from dist_llm.measuring.plotting import INK, TINTS, Drawing, Label, Picture, draw, error_bars

OURS, OTHERS = TINTS[0], TINTS[2]
ROOM = 1.9  # of the longest bar: where the words stand


def draw_benchmark(report: Report) -> Picture | None:
    """Return the speeds as a picture; None without matplotlib or without speeds."""
    chosen = {key: [c for c in report.contestants if c.task == key] for key in TASKS}
    return draw([_panel(key, results) for key, results in chosen.items() if results])


def _panel(key: str, results: Sequence[Result]) -> Drawing:
    task, names = TASKS[key], [f"{c.name} ({c.processes} x {c.threads})" for c in results]
    words = [_in_words(c) for c in results]
    ours, others = (any((c.package == "dist_llm") is mine for c in results) for mine in (True, False))

    def plot(axes: Any) -> Sequence[Label]:
        medians, bars = [c.speed.median for c in results], error_bars([c.speed for c in results])
        colors = [OURS if c.package == "dist_llm" else OTHERS for c in results]
        axes.barh(names, medians, xerr=bars, color=colors, ecolor=INK, capsize=3)
        ends = medians + np.nan_to_num(bars[1])
        for row, (end, text) in enumerate(zip(ends, words, strict=True)):
            axes.annotate(text, (end, row), (5, 0), textcoords="offset points", va="center")
        axes.set_xlim(0, ROOM * max(ends))
        axes.invert_yaxis()
        axes.set_xticks([])
        axes.spines.bottom.set_visible(False)
        if ours and others:
            for color, name in ((OURS, "dist_llm"), (OTHERS, "others")):  # for the legend
                axes.barh(0, 0, color=color, label=name)
            axes.figure.legend(ncols=2, loc="outside upper left", columnspacing=1.5, handlelength=1.4)
        return []

    title = f"{task.title}, {task.unit}"
    if any(c.speed.interval for c in results):
        title += ", with 95 % intervals"
    in_words = "; ".join(f"{name}: {said}" for name, said in zip(names, words, strict=True))
    return Drawing(title, f"{title}. {in_words}", 1 + 0.3 * len(names), plot)


def _in_words(result: Result) -> str:
    speed = result.speed.middle(0 if result.speed.median >= 100 else 2)
    return f"{speed}, {result.mfu.middle(0, 100)} % of peak" if result.mfu else speed
