"""Pictures made of panels, where matplotlib is installed: each as an SVG for a page, and all together as a PNG."""

import html
import io
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dist_llm.measuring.label_placement import Box, Wish, leader, place
from dist_llm.measuring.spread import Spread
from dist_llm.training.picture import is_drawing_possible

WIDTH, FONT, DPI = 5.4, 10.0, 120  # inches; points; pixels per inch of the PNG
IN_A_ROW = 2  # panels, in the PNG
TITLE = 50  # letters in a line of a panel's title
LINE_HEIGHT = 1.25  # of a label, in font sizes
INK, PAPER = "#1b1f24", "#ffffff"
# Lines and their labels: at least 4.5 to 1 against white, and told apart by those who do not see red or green.
SERIES = ("#0b48a8", "#a35d00", "#00805c", "#65326d")
# Areas that carry words.
TINTS = ("#a5b4f7", "#e3a76b", "#fbee9a", "#c8badd", "#7cc0a2", "#d2dfda")
# In a page, colors are those of the page, where it has any, since a dark page needs others.
PAGE_COLORS = {INK: "currentColor", PAPER: f"var(--paper, {PAPER})"} | {
    color: f"var(--{kind}-{number}, {color})"
    for kind, colors in (("series", SERIES), ("tint", TINTS))
    for number, color in enumerate(colors)
}
LOOK: Any = {
    "font.size": FONT, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "grid.alpha": 0.15, "figure.constrained_layout.w_pad": 0.08, "figure.constrained_layout.h_pad": 0.08,
    # Words stay words in the SVG, to be searched and selected; and the same report gives the same bytes.
    "svg.fonttype": "none", "svg.hashsalt": "dist_llm",
} | dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
)  # fmt: skip


@dataclass(frozen=True)
class Label:
    """Words that stand near a point (x, y) of the axes, in a line or more; left out for want of room if not needed."""

    text: str
    x: float
    y: float
    color: str = INK
    needed: bool = False


@dataclass(frozen=True)
class Drawing:
    """A panel to be drawn: `draw` puts it on matplotlib's axes and returns what is to be labelled, the first first."""

    title: str
    words: str  # what it shows, for those who do not see it
    height: float  # inches
    draw: Callable[[Any], Sequence[Label]]


@dataclass(frozen=True)
class Panel:
    """A drawn panel: an ``<svg>`` to put into a page, and its title, which is not in it."""

    title: str
    svg: str


@dataclass(frozen=True)
class Picture:
    """All panels, each for itself, and together as a PNG."""

    panels: list[Panel]
    png: bytes


def draw(drawings: Sequence[Drawing]) -> Picture | None:
    """Return the picture; None without anything to draw, or without matplotlib."""
    if not (drawings and is_drawing_possible()):
        return None
    from matplotlib import rc_context
    from matplotlib.image import imsave

    file = io.BytesIO()
    with rc_context(LOOK):
        figures = [_figure(drawing) for drawing in drawings]
        pixels = [np.concatenate([_title(d.title), _pixels(f)]) for d, f in zip(drawings, figures, strict=True)]
        imsave(file, _side_by_side(pixels), format="png")
        svgs = [_svg(figure, f"panel-{number}-") for number, figure in enumerate(figures)]
    panels = [Panel(d.title, _described(svg, d.words)) for d, svg in zip(drawings, svgs, strict=True)]
    return Picture(panels, file.getvalue())


def error_bars(spreads: Sequence[Spread], factor: float = 1) -> npt.NDArray[np.float64]:
    """Return how far the ends of the 95 % confidence intervals are below and above the medians; NaN without one."""
    medians = np.array([s.median for s in spreads])
    low, high = np.array([s.interval or (np.nan, np.nan) for s in spreads]).T
    return factor * np.maximum(0, [medians - low, high - medians])  # which rounding may make negative


def _figure(drawing: Drawing) -> Any:
    figure = _empty(drawing.height)
    axes = figure.subplots()
    labels = drawing.draw(axes)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # labels stay where they are put
    _put(labels, axes)
    return figure


def _empty(height: float) -> Any:
    # No pyplot: it keeps global state and looks for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _title(title: str) -> npt.NDArray[np.uint8]:
    """Return the pixels of a title, which the page has as words of its own, and the PNG above its panel."""
    lines = textwrap.wrap(title, TITLE)
    figure = _empty(0.1 + LINE_HEIGHT * FONT / 72 * len(lines))
    figure.text(0.02, 0, "\n".join(lines), va="bottom", weight="bold")
    return _pixels(figure)


def _pixels(figure: Any) -> npt.NDArray[np.uint8]:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def _side_by_side(panels: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Return the panels in rows, on white."""
    rows = []
    for first in range(0, len(panels), IN_A_ROW):
        row, width = panels[first : first + IN_A_ROW], panels[0].shape[1]
        paper = np.full((max(len(p) for p in row), min(IN_A_ROW, len(panels)) * width, 4), 255, np.uint8)
        for column, panel in enumerate(row):
            paper[: len(panel), column * width : (column + 1) * width] = panel
        rows.append(paper)
    return np.concatenate(rows)


def _svg(figure: Any, prefix: str) -> str:
    """Return an ``<svg>`` with the page's colors, and names that no other panel of the page has."""
    file = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    svg = re.sub(r"^.*?(?=<svg)", "", file.getvalue(), flags=re.DOTALL)
    svg = re.sub("|".join(PAGE_COLORS), lambda color: PAGE_COLORS[color[0]], svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    return re.sub(r' (width|height)="[\d.]+pt"', "", svg)


def _described(svg: str, words: str) -> str:
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(words)}"', 1)


def _put(labels: Sequence[Label], axes: Any) -> None:
    """Put labels beside their points."""
    points = axes.transData.transform([(label.x, label.y) for label in labels]) if labels else []
    texts, wishes, scale = [], [], axes.figure.dpi / 72
    for label, (x, y) in zip(labels, points, strict=True):
        look = {"color": label.color, "va": "center", "multialignment": "left", "transform": axes.transAxes}
        text = axes.text(0, 0, label.text, **look)
        width, lines = text.get_window_extent().width, label.text.count("\n") + 1
        texts.append(text)
        wishes.append(Wish(x, y, width, LINE_HEIGHT * FONT * scale * lines, label.needed))
    boxes = place(wishes, *_obstacles(axes), axes.bbox.extents)
    for text, wish, box in zip(texts, wishes, boxes, strict=True):
        if box is None:
            text.remove()
            continue
        inverted = axes.transAxes.inverted()
        for line in leader(wish, box):
            axes.plot(*inverted.transform(line).T, color=text.get_color(), linewidth=0.6, transform=axes.transAxes)
        left, bottom, right, top = box
        # A font that is narrower than the one measured leaves no gap between the point and its words.
        beside = ("left", left) if left >= wish.x else ("right", right) if right <= wish.x else None
        side, x = beside or ("center", (left + right) / 2)
        text.set_ha(side)
        text.set_position(inverted.transform((x, (bottom + top) / 2)))


def _obstacles(axes: Any) -> tuple[npt.NDArray[np.float64], list[Box]]:
    """Return the straight lines on the axes and the boxes around marks, in pixels."""
    lines, boxes = [np.empty((0, 2, 2))], list[Box]()
    for line in axes.lines:
        points = line.get_transform().transform(line.get_xydata())
        if line.get_linestyle() != "None":
            lines.append(np.stack([points[:-1], points[1:]], axis=1))
        if line.get_marker() not in ("None", "", None):
            half = (line.get_markersize() + line.get_markeredgewidth()) / 2 * axes.figure.dpi / 72
            boxes += [(x - half, y - half, x + half, y + half) for x, y in points]
    for collection in axes.collections:
        for path in collection.get_paths():
            points = collection.get_transform().transform(path.vertices)
            lines.append(np.stack([points[:-1], points[1:]], axis=1))
    found = np.concatenate(lines)
    return found[np.isfinite(found).all(axis=(1, 2))], boxes
