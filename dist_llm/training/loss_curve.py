"""Curves of the loss over the tokens seen, where matplotlib is installed: of one run, and of several side by side."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dist_llm.atomic import whole_file
from dist_llm.training.metrics import MetricsReader
from dist_llm.training.summary import RunSummary

MOST_POINTS = 4096  # several to each column of the picture


class Thinned:
    """The points of a curve, evenly over its length: all, every second, every fourth, ..., so that they stay few."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []
        self._every, self._seen = 1, 0

    def add(self, x: float, y: float) -> None:
        """Add the next point."""
        if self._seen % self._every == 0:
            self.points.append((x, y))
        self._seen += 1
        if len(self.points) > MOST_POINTS:
            self.points, self._every = self.points[::2], 2 * self._every


class LossCurve:
    """The ``loss.png`` of a run, drawn again and again from what has been added to its metrics.

    Parameters
    ----------
    run_dir : Path
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._metrics = MetricsReader(run_dir)
        self._train, self._val = Thinned(), Thinned()
        self._last_val_loss = 0.0

    def draw(self) -> Path | None:
        """Draw the curve and return the path of the picture; None without matplotlib or without metrics."""
        if not is_drawing_possible():
            return None
        for record in self._metrics.new_records():
            if record.get("loss") is not None:
                self._train.add(record["tokens"], record["loss"])
            if "val_loss" in record:
                self._val.add(record["tokens"], record["val_loss"])
                self._last_val_loss = record["val_loss"]
        if not self._train.points:
            return None
        path = self._run_dir / "loss.png"
        with _axes(path, (7, 4)) as axes:
            label = "training, one step"
            axes.plot(*zip(*self._train.points, strict=True), color="tab:blue", alpha=0.5, linewidth=1, label=label)
            if self._val.points:
                label = f"validation (last {self._last_val_loss:.3f})"
                axes.plot(
                    *zip(*self._val.points, strict=True), color="tab:orange", marker="o", markersize=3, label=label
                )
            axes.set_title(self._run_dir.name, parse_math=False)
        return path


def draw_runs(summaries: Sequence[RunSummary], path: Path) -> Path | None:
    """Draw the validation losses of several runs, or the training loss of one without any; None as above."""
    drawn = [s for s in summaries if s.val or s.train]
    if not drawn or not is_drawing_possible():
        return None
    with _axes(path, (9, 5)) as axes:
        for i, s in enumerate(drawn):
            style = {"color": f"C{i % 10}", "linestyle": ("-", "--", ":", "-.")[i // 10 % 4]}  # ten colours there are
            label = f"{s.folder.name} ({s.best_val_loss:.4f})" if s.val else f"{s.folder.name} (training)"
            axes.plot(*zip(*(s.val or s.train), strict=True), **style, marker="o" if s.val else "", markersize=3)
            axes.lines[-1].set_label(label)
        axes.set_title("validation loss", parse_math=False)
    return path


def is_drawing_possible() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


@contextmanager
def _axes(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """Give the axes of a picture to draw in, and write it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # No pyplot: it keeps global state and looks for a screen.
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    yield axes
    axes.set_xlabel("tokens seen")
    axes.set_ylabel("loss (nats per token)")
    axes.xaxis.set_major_formatter(_tokens)
    axes.grid(alpha=0.3)
    axes.legend()
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _tokens(value: float, _position: object) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {letter}"
    return f"{value:g}"
