"""``loss.png``: the training and validation loss of a run, where matplotlib is installed."""

from pathlib import Path

from dist_llm.atomic import whole_file
from dist_llm.training.metrics import read_metrics


def draw_loss_curve(run_dir: Path) -> Path | None:
    """Draw the run's metrics and return the picture's path; None without matplotlib or without metrics."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    records = read_metrics(run_dir)
    train = [(r["tokens"], r["loss"]) for r in records if "loss" in r]
    val = [(r["tokens"], r["val_loss"]) for r in records if "val_loss" in r]
    if not train:
        return None
    # No pyplot: it keeps global state and looks for a screen.
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(*zip(*train, strict=True), color="tab:blue", alpha=0.5, linewidth=1, label="training, one step")
    if val:
        label = f"validation, whole split (last {val[-1][1]:.3f})"
        axes.plot(*zip(*val, strict=True), color="tab:orange", marker="o", markersize=3, label=label)
    axes.set_xlabel("tokens seen")
    axes.set_ylabel("loss (nats per token)")
    axes.set_title(run_dir.name, parse_math=False)
    axes.xaxis.set_major_formatter(_tokens)
    axes.grid(alpha=0.3)
    axes.legend()
    path = run_dir / "loss.png"
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return path


def _tokens(value: float, _position: object) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {letter}"
    return f"{value:g}"
