"""The measurements of a report: every point in every round, as a job of its own."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dist_llm.benchmarking import sgemm
from dist_llm.config import Config
from dist_llm.errors import RunError
from dist_llm.scalability.analysis import Run
from dist_llm.scalability.launch import Launcher
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
    steps : int
        Measured at the least in a run.
    seconds : float
        Of a run, at the least.
    local_cores : int
        Usable cores of this host.
    say : callable
        Tells the user of progress.
    runs : list of Run
    failures : dict
        Points whose job failed, and why.
    peaks : list of dict
        Of each round, GFLOP/s of matrix products on this host: ``one_core``, ``all_cores``.
    calibrations : dict
        By number of ranks, as of `calibration.measure_all_reduce`.
    """

    launcher: Launcher
    config: Config
    series: Sequence[Series]
    steps: int
    seconds: float
    local_cores: int
    say: Callable[[str], None]
    runs: list[Run] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    peaks: list[dict[str, float]] = field(default_factory=list)
    calibrations: dict[int, dict[str, Any]] = field(default_factory=dict)

    def calibrate(self, sizes_bytes: Sequence[int], cores: int) -> None:
        """Time the reduction's operation on 2, 4, ... ranks, and the addition of arrays on as many as there are.

        Parameters
        ----------
        sizes_bytes : sequence of int
        cores : int
            On all hosts: more ranks would take turns.
        """
        counts = {p.ranks for series in self.series for p in series.points if 1 < p.ranks <= cores} or {1}
        for ranks in sorted(counts):
            self.say(f"timing the communication of {ranks} rank{'s' * (ranks > 1)}")
            task = {"work": "all-reduce", "config": asdict(self.config), "sizes_bytes": sizes_bytes}
            try:
                self.calibrations[ranks] = self.launcher.measure(Point(ranks, 1), task)
            except RunError as error:
                self.failures[f"communication of {ranks} ranks"] = str(error)

    def measure(self, rounds: int) -> None:
        """Measure every point once in each round, a batch that two series have in common only once."""
        jobs = list(dict.fromkeys((p, series.batch_size(p)) for series in self.series for p in series.points))
        _, peak = sgemm.prepare(self.local_cores)
        start = time.monotonic()
        for number in range(rounds):
            peaks = peak()
            self.peaks.append({key: peaks[f"{key}_gflops"] for key in ("one_core", "all_cores")})
            # There and back again: a drift within the rounds meets the first points as often as the last ones.
            for point, batch_size in jobs if number % 2 == 0 else reversed(jobs):
                if str(point) not in self.failures:
                    self._measure(number, rounds, point, batch_size)
            if number == 0 and rounds > 1:
                self.say(f"about {self._left(time.monotonic() - start, rounds - 1)} to go")

    def _measure(self, number: int, rounds: int, point: Point, batch_size: int) -> None:
        settings = {"train": {"batch_size": batch_size}, "parallel": {"threads": point.threads}}
        task = {
            "work": "training",
            "config": asdict(self.config.replace(settings)),
            "steps": self.steps,
            "seconds": self.seconds,
        }
        name = f"round {number + 1} of {rounds}: {point}, {batch_size} sequences"
        try:
            run = Run(number, point, batch_size, self.launcher.measure(point, task))
        except RunError as error:
            self.failures[str(point)] = str(error)
            self.say(f"{name}: failed: {error}")
            return
        self.runs.append(run)
        remarks = ", disturbed" * run.disturbed + ", oversubscribed" * run.oversubscribed
        self.say(f"{name}: {run.tokens_per_s(self.config.model.max_seq_len):,.0f} tokens/s{remarks}")

    def _left(self, round_s: float, rounds: int) -> str:
        seconds = round_s * rounds
        return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"

    def peak_flops(self, cores: int, number: int) -> float:
        """Return the peak of so many cores, as of a round, in operations per second; other hosts are like this one."""
        peaks: Mapping[str, float] = self.peaks[number]
        if cores < self.local_cores or self.local_cores == 1:
            return 1e9 * cores * peaks["one_core"]
        return 1e9 * peaks["all_cores"] * cores / self.local_cores
