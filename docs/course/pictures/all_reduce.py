"""The time of an all-reduce by its size, measured by the lab's script, and the line through two of the points."""

from collections.abc import Sequence
from typing import Any

from dist_llm import LanguageModel
from dist_llm.measuring.plotting import INK, SERIES, Drawing, Label
from docs.course.pictures._page import saved_by

SMALL, LARGE = 1 << 6, 1 << 22


def draw(run: LanguageModel) -> Drawing:
    """Draw times over sizes, both by powers of ten."""
    sizes, times = saved_by("labs/1-all-reduce.md", "measure.py", ranks=2)
    small, large = (float(times[list(sizes).index(size)]) for size in (SMALL, LARGE))
    b = (large - small) / (LARGE - SMALL)
    a = small - b * SMALL
    line_us = 1e6 * (a + b * sizes)

    def points(axes: Any) -> Sequence[Label]:
        axes.plot(sizes, line_us, color=SERIES[1])
        axes.plot(sizes, 1e6 * times, "o", color=SERIES[0], markersize=5)
        axes.plot([SMALL, LARGE], [1e6 * small, 1e6 * large], "s", color=SERIES[1], markersize=8)
        axes.axvline(a / b, color=INK, linewidth=1, linestyle=":")
        axes.set(xscale="log", yscale="log", xlabel="bytes", ylabel="microseconds")
        axes.grid(visible=True)
        return [
            Label(
                f"line through two of them:\n{1e6 * a:.1f} us, {1e-9 / b:.1f} GB/s",
                sizes[-6],
                line_us[-6],
                SERIES[1],
                True,
            ),
            Label("measured", sizes[12], 1e6 * times[12], SERIES[0], needed=True),
            Label(f"latency is half\nof the line: {a / b / 1024:.0f} KiB", a / b, 1e6 * times[-1], INK),
        ]

    words = (
        "Times of sums of 4 bytes to 16 MiB: flat for small arrays, proportional for large ones, with a knee between."
    )
    return Drawing("what an all-reduce takes", words, 3.2, points)
