"""What the performance model is worth: held against what was measured, above all what it was not fitted to.

It foretells one thing: what a rank waits for messages. The step is that, and all else that was measured of it: the
rank's own work, with what ranks take from each other (memory, power, cores), and what it waits for others (imbalance).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from dist_llm.scalability.analysis import SeriesResult
from dist_llm.scalability.laws import TOLERATED
from dist_llm.scalability.operations import Timings
from dist_llm.scalability.performance_model import Model, Sample, Work, ranks_per_host, samples_of

CLOSE = 0.1  # error of a step between hosts up to which its model is shown as a figure, not as a range


@dataclass(frozen=True)
class Prediction:
    """What was measured, the least and the most that was predicted, and the relative error of the nearer of the two."""

    measured_s: float
    predicted_s: list[float]
    error: float

    @classmethod
    def of(cls, measured_s: float, least_s: float, most_s: float) -> "Prediction":
        """Compare; between the two there is no error."""
        nearest = min(max(measured_s, least_s), most_s)
        return cls(measured_s, [least_s, most_s], nearest / measured_s - 1 if measured_s else 0.0)


@dataclass(frozen=True)
class Validation:
    """The model against a measured point: what a rank waits for communication, and the whole step."""

    mode: str
    point: str
    ranks: int
    hosts: int
    communication: Prediction
    step: Prediction


@dataclass(frozen=True)
class HeldOutRanks:
    """The largest number of ranks, foretold from timings of at most half as many."""

    ranks: int
    fitted_to: list[int]  # ranks
    operation: Prediction  # one of those that a step consists of
    steps: list[Validation]


def validate(series: SeriesResult, model: Model, micro_batch_size: int) -> list[Validation]:
    """Predict the points with several ranks of as many threads as the reference has."""
    found: list[Validation] = []
    for p in series.points:
        if p.ranks == 1 or p.oversubscribed or p.doubt or p.threads != series.points[0].threads:
            continue
        work, sequences = Work.of(p, micro_batch_size), math.ceil(p.batch_size / p.ranks)
        window_s = work.window_s(sequences)
        least_s, most_s = model.exposed_s(p.traffic, p.ranks, ranks_per_host(p), window_s, is_slowed=True)
        alone_s = work.step_s(sequences)
        waiting = Prediction.of(p.seconds["communication"], least_s, most_s)
        step = Prediction.of(p.step_s.median, alone_s + least_s, alone_s + most_s)
        found.append(Validation(series.mode, p.point, p.ranks, p.hosts, waiting, step))
    return found


def hold_out(
    timings: Mapping[int, Timings], gathered_bytes: int, series: Sequence[SeriesResult], micro_batch_size: int
) -> HeldOutRanks | None:
    """Fit to at most half of the largest number of ranks, and predict that; None where there is nothing to fit to."""
    timings = {ranks: t for ranks, t in timings.items() if not t.oversubscribed}
    if not timings:
        return None
    ranks = max(timings)
    largest = timings[ranks]
    # Between hosts another model holds than inside of one.
    fewer = {r: t for r, t in timings.items() if 1 < r <= ranks / 2 and (t.hosts > 1) == (largest.hosts > 1)}
    if not fewer:
        return None
    model, *_ = Model.of(fewer, gathered_bytes)
    samples = samples_of({ranks: largest})
    measured = min(samples, key=lambda sample: abs(sample.n_bytes - largest.traffic.message_bytes))
    predicted_s = model.operation_s(ranks, math.ceil(ranks / largest.hosts), measured.n_bytes)
    steps = [v for one in series for v in validate(one, model, micro_batch_size) if v.ranks == ranks]
    return HeldOutRanks(ranks, sorted(fewer), Prediction.of(measured.seconds, predicted_s, predicted_s), steps)


def why_not(samples: Sequence[Sample], held_out: HeldOutRanks | None, validation: Sequence[Validation]) -> str:
    """Return why nothing is to be projected; "" if nothing that could be checked stands against it."""
    errors = {f"the step of {v.mode} {v.point}": v.step.error for v in validation}
    if samples:
        errors["the operations that it was fitted to, on average"] = fmean(abs(sample.error) for sample in samples)
    if held_out:
        fitted_to = f"when fitted to {joined(held_out.fitted_to)} ranks"
        errors[f"the operation of {held_out.ranks} ranks, {fitted_to}"] = held_out.operation.error
        errors |= {f"the step of {v.mode} {v.point}, {fitted_to}": v.step.error for v in held_out.steps}
    where = max(errors, key=lambda name: abs(errors[name]), default="")
    if abs(errors.get(where, 0.0)) <= TOLERATED:
        return ""
    return f"the model is {100 * errors[where]:+.0f} % off {where}, and {100 * TOLERATED:.0f} % is allowed"


def is_close(validation: Sequence[Validation]) -> bool:
    """Whether the steps between hosts were foretold so well that a range is not needed."""
    between = [v for v in validation if v.hosts > 1]
    return bool(between) and all(abs(v.step.error) <= CLOSE for v in between)


def joined(ranks: Iterable[int]) -> str:
    """Return ``2, 4 and 8``."""
    *most, last = map(str, ranks)
    return f"{', '.join(most)} and {last}" if most else last
