"""Pictures, where matplotlib is installed."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dist_llm.measuring.spread import Spread


def error_bars(spreads: Sequence[Spread], factor: float = 1) -> list[list[float]]:
    """Return how far the extremes are below and above the medians."""
    return [[factor * (s.median - s.min) for s in spreads], [factor * (s.max - s.median) for s in spreads]]


@contextmanager
def figure(width: float, height: float, pictures: dict[str, bytes]) -> Iterator[Any]:
    """Give a figure to draw, which then is in `pictures` as ``png`` and ``svg``; None without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        yield None
        return
    # Words stay words in the SVG, to be searched and selected; and the same report gives the same bytes. No pyplot: it
    # keeps global state and looks for a screen.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "dist_llm", "font.size": 9}):
        drawn = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn
        for kind, metadata in (("png", {}), ("svg", {"Date": None})):
            file = io.BytesIO()
            drawn.savefig(file, format=kind, dpi=120, metadata=metadata)
            pictures[kind] = file.getvalue()
