"""How far a run is: what all its ranks know alike, and agree on again when some of them have died."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dist_llm.inference.evaluation import Evaluation
from dist_llm.training.step_result import StepResult


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

    def record(self, tokens_per_step: int, n_ranks: int) -> dict[str, Any]:
        """Return what is written to the metrics of the last step."""
        result = self.result
        assert result is not None
        record: dict[str, Any] = {
            "step": result.step,
            "tokens": result.tokens,
            "loss": result.loss,
            "lr": result.lr,
            "grad_norm": result.grad_norm,
            "rss_bytes": result.rss_bytes,
            "tokens_per_s": tokens_per_step / self.seconds,
        }
        if result.left_out:
            # JSON has no word for what is not a number.
            record |= {key: None for key in ("loss", "grad_norm") if not math.isfinite(record[key])}
            record["left_out"] = True
        if n_ranks > 1:
            record |= {"comm_exposed_s": result.comm_exposed_s, "comm_bytes": result.comm_bytes}
        if result.comm_hidden is not None:
            record["comm_hidden"] = result.comm_hidden
        if self.losses:
            record["lost"] = self.losses
        return record


def furthest(positions: Sequence[Position]) -> Position:
    """Return the position that ranks go on from, which were interrupted at different ones."""
    return max(positions, key=lambda position: (position.step, position.settled))
