"""Which forms there are, and what of a report goes into each."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dist_llm.atomic import write_text
from dist_llm.measuring.tables import count
from dist_llm.scalability.analysis import PHASES, PointResult
from dist_llm.scalability.exports.all_reduce import AllReduces, Timing, nccl_tests, osu
from dist_llm.scalability.exports.extra_p import PointTimes, extra_p
from dist_llm.scalability.exports.mllog import EvaluatedRun, MeasuredRun, learning_mllog, mllog
from dist_llm.scalability.learning_run import LearningRun
from dist_llm.scalability.report import Report
from dist_llm.scalability.runs import Run

Files = dict[str, str]  # names in the report's folder, and contents


def write_exports(report: Report, formats: Sequence[str], folder: Path) -> None:
    """Write a report in forms of `EXPORTS`, and say what has come of it."""
    for name in dict.fromkeys(formats):
        files = EXPORTS[name](report)
        for file, text in files.items():
            path = folder / file
            path.parent.mkdir(exist_ok=True)
            write_text(path, text)
        first = f" in {folder}: {next(iter(files))}{', ...' if len(files) > 1 else ''}" if files else ""
        print(f"exported for {name}: {count(len(files), 'file')}{first}", flush=True)


def _osu(report: Report) -> Files:
    return {f"allreduce-{timed.ranks}-ranks.osu.txt": osu(timed) for timed in _all_reduces(report)}


def _nccl_tests(report: Report) -> Files:
    return {f"allreduce-{timed.ranks}-ranks.nccl-tests.txt": nccl_tests(timed) for timed in _all_reduces(report)}


def _all_reduces(report: Report) -> list[AllReduces]:
    """Return what was timed, by ranks; nothing if there was one rank only."""
    if report.communication is None:
        return []
    where = report.environment
    origin = ", ".join([f"dist_llm {where.dist_llm} on {where.host}", report.created, *report.mpi])
    operation, by_ranks = report.communication.traffic.operation, dict[int, list[Timing]]()
    for sample in report.communication.calibration:
        by_ranks.setdefault(sample.ranks, []).append(Timing(sample.n_bytes, sample.measured_s.rounds))
    return [AllReduces(ranks, operation, timings, origin) for ranks, timings in by_ranks.items()]


def _extra_p(report: Report) -> Files:
    files = {}
    for series in report.series:
        # Threads that take turns on a core say nothing about what scales.
        points = [
            PointTimes(p.ranks, p.threads, _step_times([r for r in report.measurements.runs if _counts(r, p)]))
            for p in series.points
            if not p.oversubscribed
        ]
        if points:
            files[f"scaling-{series.mode}.extra-p.jsonl"] = extra_p(points)
    return files


def _counts(run: Run, p: PointResult) -> bool:
    return (run.point, run.batch_size, run.disturbed) == (p.point, p.batch_size, False)


def _step_times(runs: Sequence[Run]) -> dict[str, list[float]]:
    """Return the seconds of a step and of its phases in each run: the slowest rank's, and the means over ranks."""
    phases = {f"step->{phase}": [run.phase_s(phase) for run in runs] for phase in PHASES}
    return {"step": [run.seconds / run.steps for run in runs], **phases}


def _mllog(report: Report) -> Files:
    files: Files = {}
    for run in report.measurements.runs:
        name = f"mllog/{run.point}-batch-{run.batch_size}-run-"
        number = 1 + sum(file.startswith(name) for file in files)  # a disturbed run has others in its round
        files[f"{name}{number}.log"] = mllog(_run(report, run))
    for learned in report.measurements.learned:
        files[f"mllog/{learned.point}-batch-{learned.batch_size}-learning.log"] = learning_mllog(
            _learned(report, learned)
        )
    return files


def _run(report: Report, run: Run) -> MeasuredRun:
    metadata = {"point": run.point, "round": run.round + 1, "disturbed": run.disturbed}
    metadata |= {"oversubscribed": run.oversubscribed}
    return MeasuredRun(
        _settings(report, run.batch_size), metadata, run.batch_size, report.measurements.seq_len,
        len(run.losses) - run.steps, run.steps, run.seconds, run.losses[-1],
    )  # fmt: skip


def _learned(report: Report, run: LearningRun) -> EvaluatedRun:
    target = report.measurements.to_loss
    assert target is not None
    settings = _settings(report, run.batch_size) | {"opt_base_learning_rate": run.lr, "target_accuracy": target.loss}
    metadata = {"point": run.point}
    return EvaluatedRun(settings, metadata, run.batch_size, run.steps, run.seconds, run.val_losses, target.loss)


def _settings(report: Report, batch_size: int) -> dict[str, Any]:
    train, seq_len = report.measurements.config.train, report.measurements.seq_len
    sizes = {"global_batch_size": batch_size, "micro_batch_size": train.micro_batch_size}
    return {"seed": train.seed, **sizes, "max_sequence_length": seq_len}


EXPORTS: dict[str, Callable[[Report], Files]] = {
    "osu": _osu,
    "nccl-tests": _nccl_tests,
    "extra-p": _extra_p,
    "mllog": _mllog,
}
