"""How long it takes to learn: time, core-seconds and energy to a validation loss, for batches of some sizes.

    time to loss = steps to the loss (of the batch size) x time of a step (of the batch size and the point)

A larger batch scales better and needs fewer steps, but more tokens: which size is best on how many ranks, only both
factors together tell (McCandlish et al. 2018, An Empirical Model of Large-Batch Training, arXiv 1812.06162; Shallue et
al. 2019, Measuring the Effects of Data Parallelism on Neural Network Training, JMLR 20). The steps come from a learning
run, the time of a step from the rounds of the study. Evaluations are not in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dist_llm.measuring.spread import Spread
from dist_llm.scalability.analysis import PointResult, SeriesResult
from dist_llm.scalability.learning_run import LearningRun


@dataclass(frozen=True)
class StepsToLoss:
    """Where a learning run came to the loss: between two evaluations, and interpolated."""

    steps: float
    least: int
    most: int


@dataclass(frozen=True)
class PointToLoss:
    """What a point takes to come to the loss, with the 95 % interval that the time of a step has."""

    point: str
    ranks: int
    threads: int
    cores: int
    seconds: Spread
    range_s: list[float]  # that, and the steps of the evaluations before and after
    core_seconds: Spread
    energy_j: Spread | str  # of the processors of all hosts; or why that is not known


@dataclass(frozen=True)
class BatchToLoss:
    """How a batch size comes to the loss."""

    batch_size: int
    lr: float
    max_steps: int
    reached: StepsToLoss | None  # None if it did not, in so many steps
    best_loss: float  # of all evaluations
    points: list[PointToLoss]  # those that nothing stands against; none without steps
    doubts: dict[str, str]  # other points, and what does


@dataclass(frozen=True)
class ToLoss:
    """The batch sizes beside each other."""

    loss: float
    batches: list[BatchToLoss]

    def best_batch(self, point: str, usual: int) -> tuple[BatchToLoss, PointToLoss] | None:
        """Return the batch size that is first at a point, the usual one if none is distinguishable from it."""
        found = [(batch, p) for batch in self.batches for p in batch.points if p.point == point]
        if not found:
            return None
        first = min(found, key=lambda one: one[1].seconds.median)
        as_good = [one for one in found if one[1].range_s[0] <= first[1].range_s[1]]
        return next((one for one in as_good if one[0].batch_size == usual), first)


def steps_to_loss(run: LearningRun, loss: float) -> StepsToLoss | None:
    """Return when the run came to a loss, interpolated between the evaluations around it; None if it did not."""
    if run.val_losses[-1] > loss:
        return None
    if len(run.steps) == 1:
        return StepsToLoss(run.steps[0], run.steps[0], run.steps[0])
    (before, after), (above, below) = run.steps[-2:], run.val_losses[-2:]
    return StepsToLoss(before + (after - before) * (above - loss) / (above - below), before, after)


def time_to_loss(loss: float, learned: Sequence[LearningRun], measured: Mapping[int, SeriesResult]) -> ToLoss:
    """Return what it takes to come to a loss, from learning runs and the strong series of their batch sizes."""
    return ToLoss(loss, [_of_batch(run, loss, measured[run.batch_size]) for run in learned])


def _of_batch(run: LearningRun, loss: float, series: SeriesResult) -> BatchToLoss:
    reached = steps_to_loss(run, loss)
    doubts = {p.point: p.doubt or "oversubscribed" for p in series.points if p.doubt or p.oversubscribed}
    sound = [p for p in series.points if p.point not in doubts]
    return BatchToLoss(
        batch_size=run.batch_size, lr=run.lr, max_steps=run.max_steps, reached=reached, best_loss=min(run.val_losses),
        points=[_of_point(p, reached) for p in sound] if reached else [], doubts=doubts,
    )  # fmt: skip


def _of_point(p: PointResult, reached: StepsToLoss) -> PointToLoss:
    low, high = p.step_s.interval or (p.step_s.min, p.step_s.max)
    energy = p.step_energy_j
    return PointToLoss(
        point=p.point, ranks=p.ranks, threads=p.threads, cores=p.cores,
        seconds=_times(p.step_s, reached.steps), range_s=[reached.least * low, reached.most * high],
        core_seconds=_times(p.step_s, reached.steps * p.cores),
        energy_j=_times(energy, reached.steps) if isinstance(energy, Spread) else energy,
    )  # fmt: skip


def _times(spread: Spread, factor: float) -> Spread:
    return Spread.of(factor * value for value in spread.rounds)
