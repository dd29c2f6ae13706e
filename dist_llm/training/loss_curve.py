"""Curves of the loss over the tokens seen, where matplotlib is installed: of one run, and of several side by side."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dist_llm.atomic import whole_file
from dist_llm.training.metrics import read_metrics
from dist_llm.training.summary import RunSummary


def draw_loss_curve(run_dir: Path) -> Path | None:
    """Draw the run's metrics to its ``loss.png``, and return that; None without matplotlib or without metrics."""
    records = read_metrics(run_dir)
    train = [(r["tokens"], r["loss"]) for r in records if "loss" in r]
    val = [(r["tokens"], r["val_loss"]) for r in records if "val_loss" in r]
    if not train or not is_drawing_possible():
        return None
    path = run_dir / "loss.png"
    with _axes(path, (7, 4)) as axes:
        axes.plot(*zip(*train, strict=True), color="tab:blue", alpha=0.5, linewidth=1, label="training, one step")
        if val:
            label = f"validation, whole split (last {val[-1][1]:.3f})"
            axes.plot(*zip(*val, strict=True), color="tab:orange", marker="o", markersize=3, label=label)
        axes.set_title(run_dir.name, parse_math=False)
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
