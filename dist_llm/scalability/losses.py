"""Whether all points of a fixed batch do the same work: if they do, they come to the same loss."""

from collections.abc import Iterable
from dataclasses import dataclass

from dist_llm.config import Config
from dist_llm.scalability.runs import Run

# Relative differences of the loss that rounding explains; those of another arithmetic, or of parameters that have come
# apart, are larger after a few steps.
ROUNDING = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2}


@dataclass(frozen=True)
class Losses:
    """The losses of the last step that all runs have taken: on one batch, all points must come to one loss."""

    step: int
    by_point: dict[str, float]  # of the first run
    difference: float  # the largest relative one of any two runs
    tolerance: float | None  # None with local steps, where every number of ranks is an algorithm of its own
    equal: bool | None  # likewise


def compare_losses(measured: Iterable[Run], config: Config) -> Losses | None:
    """Compare the losses of all runs; None if there are none."""
    runs, parallel = list(measured), config.parallel
    if not runs:
        return None
    step = min(len(run.losses) for run in runs)
    losses = [run.losses[step - 1] for run in runs]
    difference = (max(losses) - min(losses)) / min(losses)
    tolerance = None if parallel.strategy == "local" else ROUNDING[parallel.reduce_dtype]
    if parallel.strategy == "deterministic":
        # In fixed point they are equal bit for bit, on any number of ranks; but BLAS rounds differently with other
        # threads.
        by_threads: dict[str, set[float]] = {}
        for run, loss in zip(runs, losses, strict=True):
            by_threads.setdefault(run.point.partition("x")[2], set()).add(loss)
        if len(by_threads) == 1 or any(len(values) > 1 for values in by_threads.values()):
            tolerance = 0.0
    by_point = {run.point: run.losses[step - 1] for run in reversed(runs)}
    return Losses(step, by_point, difference, tolerance, None if tolerance is None else difference <= tolerance)
