"""A picture with labels at its lines, where matplotlib is installed.

Nothing lies over the data: what a line is stands in a column on the right, as high as the line ends there, and is moved
only as far as labels would overlap. The colors can be told apart by the color-blind (Okabe and Ito, "Color Universal
Design", 2008).
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dist_llm.atomic import whole_file
from dist_llm.text import printable

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GRAY = "#555555"
DPI = 120
GAP = 10  # dots between things
LEADER = 24  # dots from the last panel to its labels


def is_drawing_possible() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Any]:
    """Give a figure of so many inches to draw in, and write it; the same drawing gives the same bytes."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # whatever a user's matplotlibrc says
        matplotlib.rcParams["font.size"] = 9
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a box stands for it
        # No pyplot: it keeps global state and looks for a screen.
        figure = Figure(figsize=(width, height), dpi=DPI)
        FigureCanvasAgg(figure)
        yield figure
        with whole_file(path) as temporary:
            figure.savefig(temporary, format="png")


@dataclass(frozen=True)
class Label:
    """What a line is.

    Attributes
    ----------
    text : str
        Its first line is beside the end of the line.
    color : str
        Of the text.
    end : (float, float) or None
        Where the line ends, in the coordinates of the last panel; None: the label is for its upper edge.
    line : dict
        How the thin line looks that leads to the label.
    """

    text: str
    color: str
    end: tuple[float, float] | None
    line: dict[str, Any]


def arrange(figure: Any, heading: tuple[str, str], panels: Sequence[Any], labels: Sequence[Label]) -> None:
    """Put title and subtitle above panels, which lie side by side, and the labels on the right; nothing overlaps."""
    right, top = figure.bbox.size - GAP
    for text, size, weight, color in zip(heading, (11, 9), ("bold", "normal"), ("black", GRAY), strict=True):
        written = _write(figure, text, (GAP, top), va="top", size=size, weight=weight, color=color)
        top = written.get_window_extent().y0 - GAP / 2
    texts = [_write(figure, label.text, va="center", color=label.color) for label in labels]
    right -= LEADER + max(text.get_window_extent().width for text in texts)
    _place_panels(figure, panels, right, top - GAP / 2)
    _place_labels(figure, panels[-1], labels, texts)


def _write(figure: Any, text: str, at: tuple[float, float] = (0, 0), **style: Any) -> Any:
    from matplotlib.transforms import IdentityTransform

    return figure.text(*at, text, transform=IdentityTransform(), parse_math=False, **style)


def _place_panels(figure: Any, panels: Sequence[Any], right: float, top: float) -> None:
    """Let panels share the room up to there; what stands around each of them keeps its size."""
    (width, height), inner = figure.bbox.size, [axes.bbox for axes in panels]
    outer = [axes.get_tightbbox() for axes in panels]
    lefts = [GAP + i.x0 - o.x0 for i, o in zip(inner, outer, strict=True)]
    rights = [*(o.x1 - i.x1 for i, o in zip(inner[:-1], outer, strict=False)), 0.0]  # labels are higher than ticks
    bottom = GAP + max(i.y0 - o.y0 for i, o in zip(inner, outer, strict=True))
    top -= max(o.y1 - i.y1 for i, o in zip(inner, outer, strict=True))
    share, x = (right - sum(lefts) - sum(rights)) / len(panels), 0.0
    for axes, before, after in zip(panels, lefts, rights, strict=True):
        axes.set_position(((x + before) / width, bottom / height, share / width, (top - bottom) / height))
        x += before + share + after


def _place_labels(figure: Any, axes: Any, labels: Sequence[Label], texts: Sequence[Any]) -> None:
    """Put the first line of each label beside the end of what it is for, or as near as there is room."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import IdentityTransform

    right, top, bottom = axes.bbox.x1, axes.bbox.y1, axes.bbox.y0
    ends = [(right, top) if label.end is None else axes.transData.transform(label.end) for label in labels]
    levels = [min(max(y, bottom), top) for _, y in ends]
    heights = [text.get_window_extent().height for text in texts]
    below = [
        (height - height / len(label.text.splitlines())) / 2 for height, label in zip(heights, labels, strict=True)
    ]
    wanted = [level - b for level, b in zip(levels, below, strict=True)]
    order = sorted(range(len(labels)), key=lambda i: wanted[i])
    centers = spread([wanted[i] for i in order], [heights[i] + GAP / 2 for i in order], bottom, top)
    for i, center in zip(order, centers, strict=True):
        texts[i].set_position((right + LEADER, center))
        if labels[i].end is not None:
            xs, ys = (ends[i][0], right, right + LEADER - 4), (levels[i], levels[i], center + below[i])
            figure.add_artist(Line2D(xs, ys, transform=IdentityTransform(), **labels[i].line, linewidth=0.8, alpha=0.6))


def spread(wanted: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
    """Return the centers of things that lie above each other in the order of the places they want, and do not overlap.

    The sum of squares of the distances to those is the least that is possible (pool adjacent violators). Those that are
    higher together than the room between `low` and `high` begin at `low`.
    """
    ends = np.cumsum(heights)
    offsets = ends - np.asarray(heights) / 2
    pools: list[tuple[float, int]] = []  # mean place of things that touch, and their number
    for place in np.asarray(wanted) - offsets:
        mean, n = float(place), 1
        while pools and pools[-1][0] > mean:
            lower, m = pools.pop()
            mean, n = (lower * m + mean * n) / (m + n), m + n
        pools.append((mean, n))
    places = np.repeat([mean for mean, _ in pools], [n for _, n in pools])
    return [float(y) for y in np.clip(places, low, max(low, high - ends[-1])) + offsets]


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters on one line, whose beginning and end are left."""
    text = " ".join(printable(text).split())
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) + 1 - most + most // 2 :]}"
