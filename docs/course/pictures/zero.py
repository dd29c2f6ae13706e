"""What ZeRO is for: which parts of the parameters, gradients and moments each of four ranks holds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm import LanguageModel
from dist_llm.measuring.plotting import INK, SERIES, Drawing, Label
from dist_llm.optim.adamw import AdamW
from dist_llm.optim.sharding import Unsharded
from dist_llm.partition import partition

RANKS = 4
COLORS = (SERIES[0], SERIES[2], SERIES[1], SERIES[1])


def draw(run: LanguageModel) -> Drawing:
    """Draw the arrays of a replica, and of each rank, over the flat buffer."""
    params = run.model.params
    rows = {"a replica": holds(run, slice(0, params.size))}
    rows |= {f"rank {rank}": holds(run, part) for rank, part in enumerate(partition(params.size, RANKS))}

    def bars(axes: Any) -> Sequence[Label]:
        millions = params.size / 1e6
        y, names = 0.0, {}
        for name, arrays in rows.items():
            n_bytes = sum(array.nbytes for array, _ in arrays)
            names[y - 1.5] = f"{name}\n{n_bytes / 1e6:.1f} MB"
            for (array, start), color in zip(arrays, COLORS, strict=True):
                axes.plot([0, millions], [y, y], color=INK, alpha=0.25, linewidth=0.6, zorder=0)
                axes.barh(y, array.size / 1e6, left=start / 1e6, height=0.75, color=color)
                y -= 1
            y -= 0.9
        for what, place, color in zip(("parameters", "gradients", "both moments"), (0, -1, -2.5), COLORS, strict=False):
            axes.text(1.02 * millions, place, what, color=color, va="center")
        axes.set(xlabel="place in the buffer, in millions of numbers", yticks=list(names), xlim=(0, millions))
        axes.set_yticklabels(names.values())
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        return []

    words = (
        "What a replica holds, and each of four ranks with ZeRO: all parameters and gradients, a part of the moments."
    )
    return Drawing("who holds what", words, 4.2, bars)


def holds(run: LanguageModel, part: slice) -> list[tuple[np.ndarray, int]]:
    """Return the arrays of a rank that owns a shard, and where in the buffer each begins."""
    params, sharding = run.model.params, Unsharded()
    sharding.shard = part
    adamw = AdamW(params, run.config.optim, sharding)
    return [(params.data, 0), (params.grad, 0), (adamw.m, part.start), (adamw.v, part.start)]
