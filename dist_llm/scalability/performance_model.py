"""The performance model: what a rank computes, how long an all-reduce takes, and what of it a step waits for.

What an all-reduce costs is in `dist_llm.parallel.cost`, calibrated here by operations that were timed alone; how much
of it hides behind the backward pass is in `overlap`. What is made of it is held against measurements in `model_check`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from dist_llm.measuring.spread import Spread
from dist_llm.parallel.cost import ALGORITHMS, CostModel, Network, coefficients
from dist_llm.parallel.strategy import Traffic
from dist_llm.scalability.analysis import PointResult
from dist_llm.scalability.operations import Timings
from dist_llm.scalability.overlap import Overlap, simulate

Range = tuple[float, float]  # with all that can be hidden, and with nothing hidden, the lesser figure first


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


def samples_of(timings: Mapping[int, Timings]) -> list[Sample]:
    """Return what was timed on several ranks, that had cores of their own."""
    return [
        Sample(ranks, n_bytes, Spread.of(batches_s))
        for ranks, t in timings.items()
        for n_bytes, batches_s in zip(t.sizes_bytes, t.batches_s, strict=True)
        if ranks > 1 and not t.oversubscribed
    ]


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


def calibrate(timings: Mapping[int, Timings]) -> tuple[CostModel, list[Sample], str]:
    """Return the model of timings by ranks, its errors, and where the choice of its algorithm comes from.

    Where dist_llm does not set the algorithm, MPI chooses one, which can only be guessed: it is the one that fits best.
    """
    samples, largest = samples_of(timings), timings[max(timings)]
    operation = largest.traffic.operation
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
    fixed_s: float  # what a step takes beyond that, whatever the batch; also what ranks wait for each other
    backward_share: float  # of the backward pass, in sequence_s
    micro_batch_size: int

    @classmethod
    def of(cls, point: PointResult, micro_batch_size: int, slowed_s: float = 0.0) -> "Work":
        """Return the work of a measured point, less what a step's computation lost to communication beside it."""
        seconds, sequences = point.seconds, point.batch_size / point.ranks
        fixed_s = seconds["data"] + seconds["optimizer"] + seconds["other"] + seconds["imbalance"]
        compute_s = seconds["compute"] - slowed_s
        return cls(compute_s / sequences, fixed_s, (point.backward_s - slowed_s) / compute_s, micro_batch_size)

    def step_s(self, sequences: int) -> float:
        """Return the time of a step without communication."""
        return sequences * self.sequence_s + self.fixed_s

    def window_s(self, sequences: int) -> float:
        """Return the time of the last backward pass, beside which buckets can go on."""
        return self.backward_share * self.sequence_s * min(sequences, self.micro_batch_size)


def ranks_per_host(point: PointResult) -> int:
    """Return how many ranks of a point share a host, at most."""
    return math.ceil(point.ranks / point.hosts)


@dataclass(frozen=True)
class Model:
    """What communication costs, and how it goes on beside computation."""

    inside: CostModel  # of a host
    between: CostModel  # hosts
    overlaps: list[Overlap]  # between hosts, by the ranks that they were measured on; none: a range is all there is
    gathered_bytes: int = 0  # of updates that ranks share out, and hand each other behind the reductions

    @classmethod
    def of(cls, timings: Mapping[int, Timings], gathered_bytes: int) -> tuple["Model", list[Sample], str]:
        """Calibrate inside a host and between hosts, each by itself, or the one like the other if that is all.

        Returns
        -------
        model : Model
        samples : list of Sample
        algorithm_is : str
            Where the choice of the algorithm between hosts comes from.
        """
        usable = {r: t for r, t in timings.items() if r > 1 and not t.oversubscribed}
        groups = [{r: t for r, t in usable.items() if (t.hosts > 1) == several} for several in (False, True)]
        found = [calibrate(group) for group in groups if group] or [calibrate(timings)]
        (inside, *_), (between, _, why) = found[0], found[-1]
        measured = [(ranks, t.beside) for ranks, t in sorted(usable.items()) if t.beside]
        overlaps = [Overlap.of(ranks, beside) for ranks, beside in measured]
        samples = [s for _, of_group, _ in found for s in of_group]
        return cls(inside, between, overlaps, gathered_bytes), samples, why

    def over(self, network: Network) -> "Model":
        """Return the same between hosts that are joined so."""
        return replace(self, between=network.cost_model(self.between))

    def total_s(self, traffic: Traffic, ranks: int, ranks_per_host: int) -> float:
        """Return the time of a step's communication, one behind the other; with local steps, the mean over steps."""
        operation_s = self.operation_s(ranks, ranks_per_host, traffic.message_bytes)
        return traffic.messages * operation_s / traffic.every_steps + self._gather_s(ranks, ranks_per_host)

    def exposed_s(
        self, traffic: Traffic, ranks: int, ranks_per_host: int, window_s: float, is_slowed: bool = False
    ) -> Range:
        """Return by how much communication makes a step longer.

        Parameters
        ----------
        traffic : Traffic
            Of a step.
        ranks, ranks_per_host : int
        window_s : float
            What the last backward pass takes.
        is_slowed : bool
            Whether that was measured beside communication: then what is waited for is all there is to add.
        """
        gather_s = self._gather_s(ranks, ranks_per_host)
        if overlap := self._overlap(ranks, ranks_per_host):
            message_s = self.operation_s(ranks, ranks_per_host, traffic.message_bytes)
            lost = 0.0 if is_slowed else self._lost(overlap, traffic, ranks, ranks_per_host)
            hidden = simulate(overlap.ready(traffic.messages), window_s, message_s, overlap.progress, lost)
            exposed_s = hidden.exposed_s + hidden.slowed_s + gather_s
            return exposed_s, exposed_s
        total_s = self.total_s(traffic, ranks, ranks_per_host)
        if ranks <= ranks_per_host or not traffic.overlaps:
            return total_s, total_s
        # At best all is hidden but what the window does not hold, or the last message, which begins behind it.
        least_s = max((total_s - gather_s) / traffic.messages, total_s - gather_s - window_s)
        return least_s + gather_s, total_s

    def work_of(self, point: PointResult, micro_batch_size: int) -> Work:
        """Return the work of a measured point, as it would be with no communication beside it."""
        work, ranks, per_host = Work.of(point, micro_batch_size), point.ranks, ranks_per_host(point)
        overlap = self._overlap(ranks, per_host)
        if overlap is None:
            return work
        window_s = work.window_s(math.ceil(point.batch_size / ranks))
        exposed_s, _ = self.exposed_s(point.traffic, ranks, per_host, window_s, is_slowed=True)
        hidden_s = self.total_s(point.traffic, ranks, per_host) - exposed_s
        return Work.of(point, micro_batch_size, hidden_s * self._lost(overlap, point.traffic, ranks, per_host))

    def operation_s(self, ranks: int, ranks_per_host: int, n_bytes: int) -> float:
        """Return the time of an operation on so many bytes."""
        if ranks <= ranks_per_host:
            return self.inside.seconds(ranks, n_bytes)
        return self.between.seconds(ranks, n_bytes, ranks_per_host)

    def _gather_s(self, ranks: int, ranks_per_host: int) -> float:
        cost = self.inside if ranks <= ranks_per_host else self.between
        return cost.gather_seconds(ranks, self.gathered_bytes) if self.gathered_bytes else 0.0

    def _overlap(self, ranks: int, ranks_per_host: int) -> Overlap | None:
        """Return what was measured on as many ranks, or else on most of those that are fewer."""
        fewer = [overlap for overlap in self.overlaps if overlap.ranks <= ranks]
        return fewer[-1] if fewer and ranks > ranks_per_host else None

    def _lost(self, overlap: Overlap, traffic: Traffic, ranks: int, ranks_per_host: int) -> float:
        """Return the seconds of computation lost for each of communication beside it."""
        n_bytes = traffic.message_bytes
        _, sent_bytes, _ = coefficients(self.between.algorithm, ranks, n_bytes)
        return overlap.lost_s_per_byte * sent_bytes / self.operation_s(ranks, ranks_per_host, n_bytes)
