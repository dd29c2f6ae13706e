"""The measurements of a report: every point in every round, as a job of its own."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dist_llm.benchmarking import sgemm
from dist_llm.config import Config
from dist_llm.errors import RunError
from dist_llm.parallel.placement import Placement
from dist_llm.scalability.analysis import Run
from dist_llm.scalability.cost_model import Sample
from dist_llm.scalability.job import WARM_UP_STEPS
from dist_llm.scalability.launch import Launcher
from dist_llm.scalability.modelling import Calibration, calibration_sizes
from dist_llm.scalability.points import Point, Series


@dataclass
class Study:
    """What is measured, and what has been.

    Attributes
    ----------
    launcher : Launcher
    config : Config
        With ``data.shards`` and ``model.vocab_size``.
    series : sequence of Series
    placement : Placement
        Of this process; its threads are the usable cores of this host.
    cores : int
        Usable on all hosts together.
    repeats : int
        Rounds.
    steps : int
        Measured at the least in a run.
    seconds : float
        Of a run, at the least.
    runs : list of Run
    failures : dict
        Points whose job failed, and why.
    peaks : list of dict
        Of each round, GFLOP/s of matrix products on this host: ``one_core``, ``all_cores``.
    calibrations : dict
        By number of ranks, the samples and the speed of additions.
    """

    launcher: Launcher
    config: Config
    series: Sequence[Series]
    placement: Placement
    cores: int
    repeats: int
    steps: int
    seconds: float
    runs: list[Run] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    peaks: list[dict[str, float]] = field(default_factory=list)
    calibrations: dict[int, Calibration] = field(default_factory=dict)

    def calibrate(self) -> None:
        """Time the reduction's operation on 2, 4, ... ranks, and the addition of arrays on as many as there are."""
        counts = {p.ranks for series in self.series for p in series.points if 1 < p.ranks <= self.cores} or {1}
        sizes = calibration_sizes(self.config)
        for ranks in sorted(counts):
            say(f"timing the communication of {ranks} rank{'s' * (ranks > 1)}")
            task = {"work": "all-reduce", "config": asdict(self.config), "sizes_bytes": sizes}
            try:
                answer = self.launcher.measure(Point(ranks, 1), task)
            except RunError as error:
                self.failures[f"communication of {ranks} ranks"] = str(error)
                continue
            samples = [Sample(ranks, n, s) for n, s in zip(sizes, answer["seconds"], strict=True)] if ranks > 1 else []
            self.calibrations[ranks] = Calibration(samples, answer["add_s_per_byte"], answer["mpi"])

    def measure(self) -> None:
        """Measure every point once in each round, a batch that two series have in common only once."""
        jobs = list(dict.fromkeys((p, series.batch_size(p)) for series in self.series for p in series.points))
        _, peak = sgemm.prepare(self.placement.threads)
        start = time.monotonic()
        for number in range(self.repeats):
            peaks = peak()
            self.peaks.append({key: peaks[f"{key}_gflops"] for key in ("one_core", "all_cores")})
            # There and back again: a drift within the rounds meets the first points as often as the last ones.
            for point, batch_size in jobs if number % 2 == 0 else reversed(jobs):
                if str(point) not in self.failures:
                    self._measure(number, point, batch_size)
            if number == 0 and self.repeats > 1:
                left_s = (self.repeats - 1) * (time.monotonic() - start)
                say(f"about {f'{left_s / 60:.0f} min' if left_s > 90 else f'{left_s:.0f} s'} to go")

    def _measure(self, number: int, point: Point, batch_size: int) -> None:
        settings = {"train": {"batch_size": batch_size}, "parallel": {"threads": point.threads}}
        task = {
            "work": "training",
            "config": asdict(self.config.replace(settings)),
            "steps": self.steps,
            "seconds": self.seconds,
        }
        name = f"round {number + 1} of {self.repeats}: {point}, {batch_size} sequences"
        try:
            run = Run(number, point, batch_size, self.launcher.measure(point, task))
        except RunError as error:
            self.failures[str(point)] = str(error)
            say(f"{name}: failed: {error}")
            return
        self.runs.append(run)
        remarks = ", disturbed" * run.disturbed + ", oversubscribed" * run.oversubscribed
        say(f"{name}: {run.tokens_per_s(self.config.model.max_seq_len):,.0f} tokens/s{remarks}")

    def method(self) -> dict[str, Any]:
        """Return how it is measured."""
        return {
            "repeats": self.repeats,
            "warm_up_steps": WARM_UP_STEPS,
            "steps": self.steps,
            "seconds": self.seconds,
            "launcher": shlex.join(self.launcher.words) or "no launcher",
        }

    def peak_flops(self, cores: int) -> float:
        """Return the peak of so many cores, the best of all rounds, in operations per second; all hosts being alike."""
        best = {key: max(peaks[key] for peaks in self.peaks) for key in self.peaks[0]}
        local_cores = self.placement.threads
        if cores < local_cores or local_cores == 1:
            return 1e9 * cores * best["one_core"]
        return 1e9 * best["all_cores"] * cores / local_cores


def say(line: str) -> None:
    """Tell the user how far it is."""
    print(line, flush=True)
