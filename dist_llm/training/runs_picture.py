"""The losses of several runs in one picture, by tokens seen and by time spent, where matplotlib is installed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dist_llm.training.loss_axes import MOST_MARKS, limits, mark_best, show_losses, show_time, show_tokens, usual_top
from dist_llm.training.loss_history import Point, Points
from dist_llm.training.picture import COLORS, GRAY, Label, arrange, is_drawing_possible, picture, shortened
from dist_llm.training.summary import RunSummary

STYLES = ("-", "--", ":", "-.")
MOST_NAMED = len(COLORS) * len(STYLES)  # as many lines can be told apart
OTHERS = "#BBBBBB"
# How high above the least loss half of the runs are at most, but at least so many times that loss. What is more times
# as high is cut off: of the losses of a run, and of the best losses.
USUAL, DIVERGED, HOPELESS = 0.2, 3, 10


class Curve(NamedTuple):
    """A line of the picture: the evaluations of a run, or the average of its steps, which has no best."""

    name: str
    points: Points
    losses: list[float]
    best: Point | None

    @property
    def label(self) -> str:
        """The name and what was reached."""
        return f"{self.name} {'★' if self.best else 'training'} {self.result:#.5g}"

    @property
    def result(self) -> float:
        """The best loss, or the last."""
        return self.best.loss if self.best else self.losses[-1]

    @property
    def end(self) -> tuple[float, float]:
        """The last of the line, by time."""
        return self.points.seconds[-1], self.losses[-1]


def draw_runs(summaries: Sequence[RunSummary], path: Path) -> Path | None:
    """Draw the validation losses of several runs, and the training loss of those without any.

    Returns
    -------
    Path or None
        The path; None without matplotlib or without losses.
    """
    curves = [_curve(s) for s in summaries if s.history.val or s.history.train]
    if not curves or not is_drawing_possible():
        return None
    with picture(path, 11, max(4.4, 1.6 + 0.2 * min(len(curves), MOST_NAMED + 1))) as figure:
        draw_curves(figure, curves)
    return path


def _curve(summary: RunSummary) -> Curve:
    name, history = shortened(summary.folder.name, 24), summary.history
    if history.val:
        return Curve(name, history.val, history.val.losses, history.val.best)
    return Curve(name, history.train, history.train.averaged(), None)


def draw_curves(figure: Any, curves: Sequence[Curve]) -> None:
    """Draw a line for each run in both panels; if they are very many, the best have names."""
    by_tokens, by_time = figure.subplots(1, 2, sharey=True)
    everything = [curve.points for curve in curves]
    low, high = limits(everything, _top(curves))
    show_losses(by_tokens, low, high)
    show_tokens(by_tokens, max(points.tokens[-1] for points in everything))
    show_time(by_time, max(points.seconds[-1] for points in everything))

    best = sorted(range(len(curves)), key=lambda i: curves[i].result)
    named, others = [curves[i] for i in sorted(best[:MOST_NAMED])], [curves[i] for i in best[MOST_NAMED:]]
    for curve in others:
        _plot(by_tokens, by_time, curve, {"color": OTHERS, "linewidth": 0.8})
    labels = [Label(f"{len(others)} more", GRAY, others[0].end, {"color": OTHERS})] if others else []
    for i, curve in enumerate(named):
        look = {"color": COLORS[i % len(COLORS)], "linestyle": STYLES[i // len(COLORS)]}
        _plot(by_tokens, by_time, curve, look)
        labels.append(Label(curve.label, "black", curve.end, look))
    arrange(figure, _heading(curves, high), [by_tokens, by_time], labels)


def _heading(curves: Sequence[Curve], high: float) -> tuple[str, str]:
    evaluated = any(curve.best for curve in curves)
    whose = curves[0].name if len(curves) == 1 else f"{len(curves)} runs"
    highest = max(max(curve.points.losses) for curve in curves)
    remarks = ["★ the best evaluation of each"] * evaluated
    remarks += [f"losses of up to {highest:#.4g} are cut off"] * (highest > high)
    return f"{'validation' if evaluated else 'training'} loss of {whose}", "; ".join(remarks) or " "


def _plot(by_tokens: Any, by_time: Any, curve: Curve, look: dict[str, Any]) -> None:
    points, best = curve.points, curve.best
    marks = {"marker": "o", "markersize": 3} if best and len(points) <= MOST_MARKS else {}
    by_tokens.plot(points.tokens, curve.losses, **look, **marks)
    by_time.plot(points.seconds, curve.losses, **look, **marks)
    if best:
        mark_best(by_tokens, best.tokens, best.loss, look["color"], 10)
        mark_best(by_time, best.seconds, best.loss, look["color"], 10)


def _top(curves: Sequence[Curve]) -> float:
    """Return how high the losses are of runs that have not diverged, and the best of those that have."""
    least, tops = min(min(c.points.losses) for c in curves), sorted(usual_top(c.points) for c in curves)
    usual = max(tops[(len(tops) - 1) // 2] - least, USUAL * abs(least))
    shown = [top for top in tops if top - least <= DIVERGED * usual]
    return max(shown + [c.result for c in curves if c.result - least <= HOPELESS * usual])
