"""What the last bit depends on: one number of a gradient, added up as one, two and three ranks would do it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm import LanguageModel, Loader
from dist_llm.data import open_data, prepare
from dist_llm.measuring.plotting import INK, SERIES, TINTS, Drawing, Label
from dist_llm.parallel.deterministic import FRACTION_BITS
from dist_llm.partition import shard

RANKS = (1, 2, 3)
PARTS = {"sign": 1, "exponent": 8, "fraction": 23}


def draw(run: LanguageModel) -> Drawing:
    """Draw the bits of a number whose sums in float32 are all different."""
    grads = gradients(run)
    floats = [added(grads, ranks) for ranks in RANKS]
    integers = [np.rint(grad * 2.0**FRACTION_BITS).astype(np.int64) for grad in grads]
    fixed = [(added(integers, ranks) * 2.0**-FRACTION_BITS).astype(np.float32) for ranks in RANKS]
    differ = (floats[0] != floats[1]) & (floats[0] != floats[2]) & (floats[1] != floats[2])
    place = np.abs(floats[0] * differ).argmax()
    groups = {
        "added up in float32": bits([total[place] for total in floats]),
        "added up in fixed point, then made float32": bits([total[place] for total in fixed]),
    }

    def squares(axes: Any) -> Sequence[Label]:
        names: dict[float, str] = {}
        y = 0.0
        for title, rows in groups.items():
            axes.text(0, y - 0.25, title, va="bottom", weight="bold")
            for ranks, row in zip(RANKS, rows, strict=True):
                y += 1
                names[y - 0.5] = f"{ranks} rank{'s' * (ranks > 1)}"
                for column, bit in enumerate(row):
                    changes = len(set(rows[:, column])) > 1
                    color = SERIES[1] if changes else SERIES[0]
                    face = color if bit else "none"
                    axes.add_patch(square(column, y - 1, face, color if changes else TINTS[0]))
            y += 1.6
        start = 0
        for part, width in PARTS.items():
            axes.plot([start + 0.2, start + width - 0.2], [y - 1.2] * 2, color=INK, linewidth=0.8)
            x, side = (start, "left") if part == "sign" else (start + width / 2, "center")
            axes.text(x, y - 1.05, part, ha=side, va="top")
            start += width
        axes.set(xlim=(-0.2, start + 0.2), ylim=(y + 0.2, -1.2), xticks=[], yticks=list(names))
        axes.set_yticklabels(names.values())
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return []

    words = "The 32 bits of one number of a gradient, added up by one, two and three ranks: the last ones differ."
    return Drawing("the last bit", words, 2.6, squares)


def square(x: float, y: float, face: str, edge: str) -> Any:
    """Return a bit: full if it is one."""
    from matplotlib.patches import Rectangle

    return Rectangle((x + 0.12, y + 0.1), 0.76, 0.8, facecolor=face, edgecolor=edge, linewidth=0.8)


def gradients(run: LanguageModel) -> list[np.ndarray]:
    """Return the gradient of each sequence of a batch."""
    model, grad = run.model, run.model.params.grad
    x, y = Loader.of(open_data(prepare(run.config.data)).train, run.config).batch(0)
    found = []
    for row in range(len(x)):
        grad[...] = 0
        _, cache = model.loss(x[row : row + 1], y[row : row + 1])
        model.loss_backward(1 / y.size, cache)
        found.append(grad.copy())
    return found


def added(grads: list[np.ndarray], ranks: int) -> np.ndarray:
    """Return the sum over ranks, each of which has added up its own share one after the other."""
    return sum(sum(grads[shard(len(grads), rank, ranks)]) for rank in range(ranks))


def bits(numbers: Sequence[np.float32]) -> np.ndarray:
    """Return the bits of numbers (n,), the sign first: 0 and 1 of shape (n, 32)."""
    return np.unpackbits(np.array(numbers, ">f4").view(np.uint8)).reshape(len(numbers), 32)
