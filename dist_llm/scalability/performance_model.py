"""The performance model of communication: how long an all-reduce takes, calibrated here and checked.

Its formulas are in `dist_llm.parallel.cost`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from dist_llm.measuring.spread import Spread
from dist_llm.parallel.cost import ALGORITHMS, CostModel, coefficients
from dist_llm.parallel.strategy import Traffic
from dist_llm.scalability.analysis import PointResult, SeriesResult
from dist_llm.scalability.operations import Timings


@dataclass(frozen=True)
class Sample:
    """A measured operation, and the model's relative error in it: (predicted - measured) / measured."""

    ranks: int
    n_bytes: int
    measured_s: Spread  # over batches of operations
    error: float = 0.0

    @property
    def seconds(self) -> float:
        """The median, which the model is fitted to."""
        return self.measured_s.median


def fit(samples: Sequence[Sample], algorithm: str, add_s_per_byte: float) -> tuple[CostModel, list[Sample]]:
    """Find the latency and the time per byte that fit best, none below zero; return the samples with the errors.

    Relative errors are what is made small: an absolute error would be that of the largest message alone.
    """
    factors = np.array([coefficients(algorithm, s.ranks, s.n_bytes) for s in samples], np.float64)
    factors /= np.array([[s.seconds] for s in samples])
    x, y = factors[:, :2], 1 - factors[:, 2] * add_s_per_byte
    best, least = np.zeros(2), math.inf
    # With two unknowns, the constrained optimum is the free one or lies on one of the two borders.
    for columns in ([0, 1], [0], [1]):
        solution = np.zeros(2)
        solution[columns] = np.linalg.lstsq(x[:, columns], y, rcond=None)[0]
        error = float(np.sum((x @ solution - y) ** 2))
        if solution.min() >= 0 and error < least:
            best, least = solution, error
    model = CostModel(algorithm, float(best[0]), float(best[1]), add_s_per_byte)
    return model, [replace(s, error=float(e)) for s, e in zip(samples, x @ best - y, strict=True)]


def calibration_sizes(traffic: Traffic) -> list[int]:
    """Return the bytes of the operations to be timed, from small ones to those of the model, each a multiple of 4."""
    message = traffic.message_bytes
    return sorted({1 << 10, 1 << 13, 1 << 16, 1 << 19, -(-message // 4) * 4, -(-message // 16) * 4})


def calibrate(timings: Mapping[int, Timings], traffic: Traffic) -> tuple[CostModel, list[Sample], str]:
    """Return the model of timings by ranks, its errors, and where the choice of its algorithm comes from.

    Where dist_llm does not set the algorithm, MPI chooses one, which can only be guessed: it is the one that fits best.
    """
    by_ranks = [(ranks, t) for ranks, t in timings.items() if ranks > 1]
    samples = [
        Sample(ranks, n_bytes, Spread.of(batches_s))
        for ranks, t in by_ranks
        for n_bytes, batches_s in zip(t.sizes_bytes, t.batches_s, strict=True)
    ]
    largest, operation = timings[max(timings)], traffic.operation
    if not samples:
        assumed = "assumed: nothing was measured on several ranks"
        return CostModel("ring", 0.0, 0.0, largest.add_s_per_byte), [], assumed
    algorithms: Sequence[str] = ("ring",)
    why = "of which the operation's cost has the form"
    if operation == "nonblocking all-reduce" and largest.mpi.startswith("Open MPI"):
        why = "which dist_llm has Open MPI use"
    elif "all-reduce" in operation:
        two = {sample.ranks for sample in samples} == {2}
        algorithms, why = ALGORITHMS, "fits best" + "; two ranks cannot tell ring from Rabenseifner" * two
    fits = [fit(samples, algorithm, largest.add_s_per_byte) for algorithm in algorithms]
    model, fitted = min(fits, key=lambda pair: fmean(sample.error**2 for sample in pair[1]))
    shares_link = model.algorithm != "ring" or operation == "all-to-all, all-gather"
    return replace(model, shares_link=shares_link), fitted, why


@dataclass(frozen=True)
class Work:
    """What a rank does between communications."""

    sequence_s: float  # forward and backward pass of a sequence
    fixed_s: float  # what a step takes beyond that, whatever the batch
    backward_share: float  # of the backward pass, in sequence_s
    micro_batch_size: int

    @classmethod
    def of(cls, point: PointResult, micro_batch_size: int) -> "Work":
        """Return the work of a measured point."""
        seconds, sequences = point.seconds, point.batch_size / point.ranks
        fixed_s = seconds["data"] + seconds["optimizer"] + seconds["other"]
        share = point.backward_s / seconds["compute"]
        return cls(seconds["compute"] / sequences, fixed_s, share, micro_batch_size)

    def step_s(self, sequences: int) -> float:
        """Return the time of a step without communication."""
        return sequences * self.sequence_s + self.fixed_s

    def window_s(self, sequences: int) -> float:
        """Return the time of the last backward pass, beside which buckets can go on."""
        return self.backward_share * self.sequence_s * min(sequences, self.micro_batch_size)


def communication_s(traffic: Traffic, cost: CostModel, ranks: int, ranks_per_host: int) -> float:
    """Return the time that a step's operations take, one behind the other; with local steps, the mean over steps."""
    return traffic.messages * cost.seconds(ranks, traffic.message_bytes, ranks_per_host) / traffic.every_steps


def least_exposed_s(traffic: Traffic, total_s: float, window_s: float) -> float:
    """Return what of the communication is waited for at best: what the window does not hold, or the last message."""
    return max(total_s / traffic.messages, total_s - window_s) if traffic.overlaps else total_s


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
    communication: Prediction
    step: Prediction


def validate(series: SeriesResult, cost: CostModel, micro_batch_size: int) -> list[Validation]:
    """Predict the points that differ from the reference in their ranks alone, from the reference and the model."""
    found: list[Validation] = []
    if not series.points or series.points[0].doubt:
        return found
    for p in series.points:
        if p.ranks == 1 or p.oversubscribed or p.doubt or p.threads != series.points[0].threads:
            continue
        work, sequences = Work.of(series.points[0], micro_batch_size), math.ceil(p.batch_size / p.ranks)
        most_s = communication_s(p.traffic, cost, p.ranks, 1)
        least_s, alone_s = least_exposed_s(p.traffic, most_s, work.window_s(sequences)), work.step_s(sequences)
        # Inside a host communication is work of the cores, and takes its time also where nobody waits for it.
        added_s = most_s if p.hosts == 1 else least_s
        waiting = Prediction.of(p.seconds["communication"], least_s, most_s)
        step = Prediction.of(p.step_s.median, alone_s + added_s, alone_s + most_s)
        found.append(Validation(series.mode, p.point, waiting, step))
    return found
