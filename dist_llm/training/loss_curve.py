"""``loss.png``: the losses of a run by the tokens seen and the time spent, where matplotlib is installed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dist_llm.config import Config
from dist_llm.model.llama import count_parameters
from dist_llm.training.loss_axes import (
    MOST_MARKS,
    add_time,
    amount,
    limits,
    mark_best,
    show_losses,
    show_tokens,
    usual_top,
)
from dist_llm.training.loss_history import LossHistory, Points
from dist_llm.training.metrics import MetricsReader
from dist_llm.training.picture import GRAY, Label, arrange, is_drawing_possible, picture, shortened

TRAINING, VALIDATION = "#0072B2", "#C24E00"  # dark enough for words


class LossCurve:
    """The ``loss.png`` of a run, drawn again and again from what has been added to its metrics.

    Parameters
    ----------
    run_dir : Path
    config : Config
        Of the run, with the size of its vocabulary.
    """

    def __init__(self, run_dir: Path, config: Config) -> None:
        self._run_dir, self._config = run_dir, config
        self._metrics = MetricsReader(run_dir)
        self._history = LossHistory()

    def draw(self) -> Path | None:
        """Draw the curve and return the path of the picture; None without matplotlib or without metrics."""
        if not is_drawing_possible():
            return None
        for record in self._metrics.new_records():
            self._history.add(record)
        if not self._history.train:
            return None
        path = self._run_dir / "loss.png"
        with picture(path, 7.5, 4.4) as figure:
            draw_run(figure, self._history, shortened(self._run_dir.name, 40), described(self._history, self._config))
        return path


def described(history: LossHistory, config: Config) -> str:
    """Return what a run is: which losses, how many parameters, on which text, with how many ranks."""
    text = config.data.shards or config.data.path or config.data.corpus
    names = ", ".join(Path(part).name for part in text.split(","))
    parameters = amount(count_parameters(config.model, config.vocab_size))
    least, most = min(history.ranks, default=0), max(history.ranks, default=0)
    ranks = [f"{least} to {most} ranks" if least < most else f"{most} rank{'s' * (most > 1)}"] if most else []
    what = "training and validation loss" if history.val else "training loss"
    return f"{what}: {', '.join([f'{parameters} parameters', shortened(names, 20), *ranks])}"


def draw_run(figure: Any, history: LossHistory, title: str, subtitle: str) -> None:
    """Draw the losses of a run that has taken a step."""
    axes, curves = figure.add_subplot(), [points for points in (history.train, history.val) if points]
    low, high = limits(curves, max(map(usual_top, curves)))
    show_tokens(axes, history.tokens)
    show_losses(axes, low, high)
    add_time(axes, history)
    labels = [*_training(axes, history.train), *_validation(axes, history), *_cut_off(axes, curves, high)]
    arrange(figure, (title, subtitle), [axes], labels)


def _training(axes: Any, train: Points) -> list[Label]:
    half_life, averaged = train.half_life(), train.averaged()
    words = f"training {loss(averaged[-1])}"
    if half_life is None:
        axes.plot(train.tokens, train.losses, ".-", color=TRAINING, markersize=6)
    else:
        axes.plot(train.tokens, train.losses, ".", color=TRAINING, markersize=4, alpha=0.35, markeredgewidth=0)
        axes.plot(train.tokens, averaged, color=TRAINING)
        dots = "single steps" if train.each == 1 else f"means of {train.each}"
        words += f"\nexponential average\nwith a half-life of\n{amount(half_life)} tokens\ndots: {dots}"
    return [Label(words, TRAINING, (train.tokens[-1], averaged[-1]), {"color": TRAINING})]


def _validation(axes: Any, history: LossHistory) -> list[Label]:
    val, best = history.val, history.val.best
    if best is None:
        return []
    mark = "o" if len(val) <= MOST_MARKS else ""
    axes.plot(val.tokens, val.losses, color=VALIDATION, marker=mark, markersize=3.5)
    mark_best(axes, best.tokens, best.loss, VALIDATION, 11)
    last = (val.tokens[-1], val.losses[-1])
    marked = f"★ best {loss(best.loss)}"
    if best.tokens == last[0]:
        return [Label(f"validation\n{marked}", VALIDATION, last, {"color": VALIDATION})]
    return [
        Label(f"validation {loss(last[1])}", VALIDATION, last, {"color": VALIDATION}),
        Label(
            f"{marked}\nat {amount(best.tokens)} tokens",
            VALIDATION,
            (best.tokens, best.loss),
            {"color": VALIDATION, "linestyle": ":"},
        ),
    ]


def _cut_off(axes: Any, curves: Sequence[Points], high: float) -> list[Label]:
    """Mark where losses are above the picture."""
    above = [(x, y) for points in curves for x, y in zip(points.tokens, points.losses, strict=True) if y > high]
    if not above:
        return []
    width = axes.get_xlim()[1] / MOST_MARKS
    places = sorted({(x // width + 0.5) * width for x, _ in above})
    axes.plot(places, [0.985] * len(places), "^", color=GRAY, markersize=4, transform=axes.get_xaxis_transform())
    return [Label(f"▲ {len(above)} dots above,\nup to {loss(max(y for _, y in above))}", GRAY, None, {})]


def loss(value: float) -> str:
    """Return a loss in four digits."""
    return f"{value:#.4g}"
