"""How far a run is: what all its ranks know alike, and agree on again when some of them have died."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dist_llm.inference.evaluation import Evaluation
from dist_llm.training.step import StepResult


@dataclass(frozen=True)
class Position:
    """How far a run is.

    Attributes
    ----------
    step : int
        Steps finished.
    best_val_loss : float
    since_best : int
        Evaluations in a row that have not improved it.
    result : StepResult or None
        What the last step gave.
    seconds : float
        Time it took.
    settled : bool
        Whether all that follows that step has been done: evaluation, checkpoint, metrics.
    evaluation : Evaluation or None
        That of the finished run.
    ended : bool
    losses : list of dict
        The losses of ranks: which, in which step, and how long it took to go on.
    """

    step: int
    best_val_loss: float
    since_best: int
    result: StepResult | None = None
    seconds: float = 0.0
    settled: bool = True
    evaluation: Evaluation | None = None
    ended: bool = False
    losses: list[dict[str, Any]] = field(default_factory=list)


def furthest(positions: Sequence[Position]) -> Position:
    """Return the position that ranks go on from, which were interrupted at different ones."""
    return max(positions, key=lambda position: (position.step, position.settled))
