"""A measured run as a log of MLPerf's ``:::MLLOG`` lines (MLCommons, mlperf-logging 4.1), which is no MLPerf result.

Its form is that of a training run: settings, then ``run_start``, a block of steps and ``run_stop``, with the throughput
where submitters log it (``tracked_stats``). It has nothing of a submission: no benchmark, no division. Times count from
the beginning of the measured steps; what came before them is not in a run's time. A run that learned to a loss has
evaluations instead, whose ``eval_accuracy`` is that loss, as for MLPerf's language models.
"""

import json
from dataclasses import dataclass
from typing import Any

DISCLAIMER = "a scaling run of dist_llm in the form of MLPerf's logs: not an MLPerf result, and no MLPerf benchmark"


@dataclass(frozen=True)
class MeasuredRun:
    """A run of training steps, after some to warm up; a sample is a sequence of `seq_len` tokens."""

    settings: dict[str, Any]  # logged each by its name, such as global_batch_size
    metadata: dict[str, Any]  # of the run: which it was
    batch_size: int
    seq_len: int
    warm_up_steps: int
    steps: int
    seconds: float
    loss: float  # of the last step


@dataclass(frozen=True)
class EvaluatedRun:
    """A run from the beginning to an evaluation that finds a loss of `target` or less, or to its end."""

    settings: dict[str, Any]
    metadata: dict[str, Any]
    batch_size: int
    steps: list[int]  # before each evaluation
    seconds: list[float]  # up to the end of each
    losses: list[float]
    target: float


def learning_mllog(run: EvaluatedRun) -> str:
    """Return the log of a run that learned."""
    counts = [{"samples_count": steps * run.batch_size} for steps in run.steps]
    times_ms = [round(1e3 * seconds) for seconds in run.seconds]
    status = "success" if run.losses[-1] <= run.target else "aborted"
    lines = [
        *_head(run),
        _line(0, "INTERVAL_START", "block_start", None, counts[0]),
        *(
            _line(time_ms, "POINT_IN_TIME", "eval_accuracy", loss, count)
            for time_ms, loss, count in zip(times_ms, run.losses, counts, strict=True)
        ),
        _line(times_ms[-1], "INTERVAL_END", "block_stop", None, counts[-1]),
        _line(times_ms[-1], "INTERVAL_END", "run_stop", None, {"status": status, **counts[-1]}),
    ]
    return "".join(f"{line}\n" for line in lines)


def mllog(run: MeasuredRun) -> str:
    """Return the log of a run whose steps were timed."""
    before, samples = run.warm_up_steps * run.batch_size, run.steps * run.batch_size
    end_ms, samples_per_s = round(1e3 * run.seconds), samples / run.seconds
    count = {"samples_count": before + samples}
    stats = {"throughput": samples_per_s, "tokens_per_s": samples_per_s * run.seq_len, "train_loss": run.loss}
    lines = [
        *_head(run),
        _line(0, "INTERVAL_START", "block_start", None, {"samples_count": before}),
        _line(end_ms, "POINT_IN_TIME", "tracked_stats", stats, {"step": run.warm_up_steps + run.steps, **count}),
        _line(end_ms, "INTERVAL_END", "block_stop", None, count),
        _line(end_ms, "INTERVAL_END", "run_stop", None, {"status": "success", **count}),
    ]
    return "".join(f"{line}\n" for line in lines)


def _head(run: MeasuredRun | EvaluatedRun) -> list[str]:
    return [
        _line(0, "POINT_IN_TIME", "comment", DISCLAIMER, {}),
        *(_line(0, "POINT_IN_TIME", key, value, {}) for key, value in run.settings.items()),
        _line(0, "INTERVAL_START", "run_start", None, run.metadata),
    ]


def _line(time_ms: int, event_type: str, key: str, value: Any, metadata: dict[str, Any]) -> str:
    entry = {"namespace": "dist_llm", "time_ms": time_ms, "event_type": event_type, "key": key, "value": value}
    return f":::MLLOG {json.dumps(entry | {'metadata': metadata})}"
