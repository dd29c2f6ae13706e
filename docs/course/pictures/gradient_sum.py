"""How a ring sums up: arrays of ones go around, so that a piece is the number of ranks that it is the sum of."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm import LanguageModel
from dist_llm.measuring.plotting import INK, TINTS, Drawing, Label

RANKS = 4
STEPS = 2 * (RANKS - 1)
COLORS = (TINTS[5], TINTS[3], TINTS[0], TINTS[4])  # of pieces of one rank, of two, ..., of all
APART = 1.5  # between two grids, in pieces


def ring() -> list[np.ndarray]:
    """Return the pieces of all ranks, (rank, piece), at the beginning and after each step."""
    states = [np.ones((RANKS, RANKS), int)]
    ranks = np.arange(RANKS)
    for step in range(STEPS):
        before, after = states[-1], states[-1].copy()
        piece = (ranks - step) % RANKS
        sent = before[ranks, piece]
        receivers = (ranks + 1) % RANKS
        after[receivers, piece] = sent + (before[receivers, piece] if step < RANKS - 1 else 0)
        states.append(after)
    return states


def draw(run: LanguageModel) -> Drawing:
    """Draw a grid of ranks and pieces for each step: the reduce-scatter above, the all-gather below."""
    states = ring()

    def grids(axes: Any) -> Sequence[Label]:
        for step, state in enumerate(states):
            row, column = divmod(step - 1, RANKS - 1) if step else (0, -1)
            left, top = (column + 1) * (RANKS + APART), row * (RANKS + 2.2)
            for (rank, piece), count in np.ndenumerate(state):
                place = (left + piece, top + rank)
                received = step > 0 and count != states[step - 1][rank, piece]
                axes.add_patch(_rectangle(place, COLORS[count - 1], bold=received))
                axes.text(place[0] + 0.5, place[1] + 0.53, str(count), ha="center", va="center", color=INK)
            title = f"step {step}" if step else "at the start"
            axes.text(left + RANKS / 2, top - 0.55, title, ha="center", va="center", color=INK)
        for rank in range(RANKS):
            axes.text(-0.3, rank + 0.5, f"rank {rank}", ha="right", va="center", color=INK)
        words = "heavy frame:\njust received, and\nadded (1 to 3) or\nkept (4 to 6)"
        axes.text(-2.6, RANKS + 2.2 + RANKS / 2, words, va="center", color=INK)
        axes.set_xlim(-2.7, (RANKS + APART) * RANKS - APART + 0.1)
        axes.set_ylim(2 * RANKS + 2.4, -1.1)
        axes.set_aspect("equal")
        axes.axis("off")
        return []

    words = "Grids of four ranks by four pieces, step by step: each rank comes to have one sum of four, and then all."
    return Drawing("a ring of four ranks", words, 2.9, grids)


def _rectangle(place: tuple[float, float], color: str, bold: bool) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(place, 1, 1, facecolor=color, edgecolor=INK, linewidth=2 if bold else 0.4, zorder=2 if bold else 1)
