"""Why ranks wait: when each of four comes to three sums, and when it leaves them, measured by the page's script."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm import LanguageModel
from dist_llm.measuring.plotting import INK, SERIES, TINTS, Drawing, Label
from docs.course.pictures._page import saved_by

RANKS = 4


def draw(run: LanguageModel) -> Drawing:
    """Draw each rank's work and waits over time."""
    came, left = 1000 * np.moveaxis(saved_by("13-ranks.md", "waits.py", RANKS), -1, 0)  # each by rank and round
    ranks = np.arange(RANKS)

    def bars(axes: Any) -> Sequence[Label]:
        begin = np.zeros(RANKS)
        for came_ms, left_ms in zip(came.T, left.T, strict=True):
            axes.barh(ranks, came_ms - begin, 0.62, begin, color=SERIES[0])
            axes.barh(ranks, left_ms - came_ms, 0.62, came_ms, color=TINTS[1])
            begin = left_ms
        for end_ms in left.max(axis=0):
            axes.axvline(end_ms, color=INK, linewidth=1, linestyle=":")
        axes.set(xlabel="milliseconds", yticks=ranks, yticklabels=[f"rank {rank}" for rank in ranks])
        axes.set_ylim(RANKS - 0.5, -1.3)
        longest = int(np.argmax(left[:, 0] - came[:, 0]))
        axes.text(4, -0.75, "work", color=SERIES[0], va="center")
        axes.text(came[longest, 0] + 4, longest, "waits", color=INK, va="center")
        for number, end_ms in enumerate(left.max(axis=0), 1):
            axes.text(end_ms - 4, -0.75, f"sum {number}", ha="right", va="center", color=INK)
        return []

    words = "Bars of work and of waiting of four ranks over time; all leave each of three sums at the same moment."
    return Drawing("all wait for the slowest", words, 2.6, bars)
