"""A measured run as a log of MLPerf's ``:::MLLOG`` lines (MLCommons, mlperf-logging 4.1), which is no MLPerf result.

Its form is that of a training run: settings, then ``run_start``, a block of steps and ``run_stop``, with the throughput
where submitters log it (``tracked_stats``). It has nothing of a submission: no benchmark, no division, no target, no
evaluation. Times count from the beginning of the measured steps; what came before them is not in a run's time.
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


def mllog(run: MeasuredRun) -> str:
    """Return the log."""
    before, samples = run.warm_up_steps * run.batch_size, run.steps * run.batch_size
    end_ms, samples_per_s = round(1e3 * run.seconds), samples / run.seconds
    count = {"samples_count": before + samples}
    stats = {"throughput": samples_per_s, "tokens_per_s": samples_per_s * run.seq_len, "train_loss": run.loss}
    lines = [
        _line(0, "POINT_IN_TIME", "comment", DISCLAIMER, {}),
        *(_line(0, "POINT_IN_TIME", key, value, {}) for key, value in run.settings.items()),
        _line(0, "INTERVAL_START", "run_start", None, run.metadata),
        _line(0, "INTERVAL_START", "block_start", None, {"samples_count": before}),
        _line(end_ms, "POINT_IN_TIME", "tracked_stats", stats, {"step": run.warm_up_steps + run.steps, **count}),
        _line(end_ms, "INTERVAL_END", "block_stop", None, count),
        _line(end_ms, "INTERVAL_END", "run_stop", None, {"status": "success", **count}),
    ]
    return "".join(f"{line}\n" for line in lines)


def _line(time_ms: int, event_type: str, key: str, value: Any, metadata: dict[str, Any]) -> str:
    entry = {"namespace": "dist_llm", "time_ms": time_ms, "event_type": event_type, "key": key, "value": value}
    return f":::MLLOG {json.dumps(entry | {'metadata': metadata})}"
