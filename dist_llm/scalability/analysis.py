"""From runs to figures: what each point of a series reached, where its time went, and how far to trust it.

What is compared is compared within a round, whose runs follow each other within minutes, and the median over the rounds
is taken afterwards: what slows the machine down for longer than a round slows down both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from dist_llm.benchmarking.spread import spread
from dist_llm.config import Config
from dist_llm.scalability.fits import amdahl, gustafson, karp_flatt
from dist_llm.scalability.points import Point, Series

PHASES = ("compute", "communication", "imbalance", "data", "optimizer", "other")
DISTURBED = 0.03  # share of the CPUs' time that others had during a run
WIDE = 0.1  # (most - least) / median of the speeds of a point
# Relative differences of the loss that rounding explains; those of another arithmetic, or of parameters that have come
# apart, are larger after a few steps.
ROUNDING = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2}


@dataclass(frozen=True)
class Run:
    """One job's measurement.

    Attributes
    ----------
    round : int
    point : Point
    batch_size : int
    answer : dict
        As `dist_llm.scalability.job.measure_training` returns it.
    """

    round: int
    point: Point
    batch_size: int
    answer: dict[str, Any]

    @property
    def disturbed(self) -> bool:
        """Whether others had a part of the CPUs that counts."""
        return sum(self.answer["disturbance"].values()) > DISTURBED

    @property
    def oversubscribed(self) -> bool:
        """Whether threads had to take turns on cores, as their placement found."""
        return any(rank["placement"]["warning"] for rank in self.answer["ranks"])

    def tokens_per_s(self, seq_len: int) -> float:
        """Return the speed of all ranks together, by the time of the slowest."""
        return self.batch_size * seq_len * self.answer["steps"] / self.answer["seconds"]


def summarize(
    series: Series,
    runs: Sequence[Run],
    peak_flops: Callable[[int], float],
    config: Config,
    flops_per_token: int,
) -> dict[str, Any]:
    """Return the figures of a series.

    Parameters
    ----------
    runs : sequence of Run
        Of any series; a point that has none here has failed.
    peak_flops : callable
        The peak of so many cores, per second.
    config : Config

    Returns
    -------
    dict
        ``mode``, ``sequences``, ``reference`` (the point that speed-up is relative to; None if all failed), ``points``,
        ``fit``, ``left_out``.
    """
    seq_len = config.model.max_seq_len
    chosen = {
        point: {run.round: run for run in runs if (run.point, run.batch_size) == (point, series.batch_size(point))}
        for point in series.points
    }
    chosen = {point: rounds for point, rounds in chosen.items() if rounds}
    speeds = {point: {r: run.tokens_per_s(seq_len) for r, run in rounds.items()} for point, rounds in chosen.items()}
    reference = next(iter(chosen), None)

    def ratio(point: Point, other: Point | None) -> dict[str, Any] | None:
        """Speeds of a point over those of another, round by round."""
        if other not in speeds:
            return None
        both = speeds[point].keys() & speeds[other].keys()
        return spread([speeds[point][r] / speeds[other][r] for r in sorted(both)]) if both else None

    points = []
    for point, rounds in chosen.items():
        assert reference is not None
        speed_up, relative_cores = ratio(point, reference), point.cores / reference.cores
        measured = _measured(point, list(rounds.values()), series.batch_size(point), seq_len)
        judged = relative_cores > 1 and not measured["oversubscribed"]
        flops = [flops_per_token * speed for speed in speeds[point].values()]
        points.append(
            measured
            | {
                "speed_up": speed_up,
                "efficiency": speed_up and spread([s / relative_cores for s in speed_up["rounds"]]),
                "to_one_process": ratio(point, Point(1, point.cores)),
                "karp_flatt": karp_flatt(relative_cores, speed_up["median"]) if speed_up and judged else None,
                "mfu": spread([f / peak_flops(point.cores) for f in flops]),
            }
        )
    result = {
        "mode": series.mode,
        "sequences": series.sequences,
        "reference": None if reference is None else str(reference),
        "points": points,
        "fit": _fit(series.mode, points),
        "left_out": [str(point) for point in series.left_out],
        "failed": [str(point) for point in series.points if point not in chosen],
    }
    if series.mode == "strong":
        result["losses"] = compare_losses(list(chosen.values()), config)
    return result


def compare_losses(points: Sequence[dict[int, Run]], config: Config) -> dict[str, Any] | None:
    """Compare the losses of the last step that all runs have taken: on one batch, all points must come to one loss.

    Returns
    -------
    dict or None
        ``step``, ``by_point`` (of the first run), ``difference`` (the largest relative one of any two runs),
        ``tolerance`` and ``equal``. With local steps, ``tolerance`` and ``equal`` are None: every number of ranks is
        an algorithm of its own. None if there are no runs.
    """
    runs = [run for rounds in points for run in rounds.values()]
    if not runs:
        return None
    step = min(len(run.answer["losses"]) for run in runs)
    losses = [run.answer["losses"][step - 1] for run in runs]
    difference = (max(losses) - min(losses)) / min(losses)
    result: dict[str, Any] = {
        "step": step,
        "by_point": {str(run.point): run.answer["losses"][step - 1] for run in reversed(runs)},
        "difference": difference,
        "tolerance": None,
        "equal": None,
    }
    parallel = config.parallel
    if parallel.reduction != "local":
        tolerance = ROUNDING[parallel.wire]
        if parallel.reduction == "deterministic":
            # In fixed point they are equal bit for bit, on any number of ranks; but BLAS rounds differently with other
            # threads.
            by_threads: dict[int, set[float]] = {}
            for run, loss in zip(runs, losses, strict=True):
                by_threads.setdefault(run.point.threads, set()).add(loss)
            if len(by_threads) == 1 or any(len(values) > 1 for values in by_threads.values()):
                tolerance = 0.0
        result |= {"tolerance": tolerance, "equal": difference <= tolerance}
    return result


def _measured(point: Point, runs: Sequence[Run], batch_size: int, seq_len: int) -> dict[str, Any]:
    """Return the figures of a point that need no other point."""
    answers = [run.answer for run in runs]
    placements = [rank["placement"] for rank in answers[0]["ranks"]]
    speed = spread([run.tokens_per_s(seq_len) for run in runs])
    return {
        "point": str(point),
        "ranks": point.ranks,
        "threads": point.threads,
        "cores": point.cores,
        "hosts": len({placement["host"] for placement in placements}),
        "binding": ", ".join(sorted({placement["bound_by"] or "not bound" for placement in placements})),
        "oversubscribed": any(run.oversubscribed for run in runs),
        "batch_size": batch_size,
        "tokens_per_step": batch_size * seq_len,
        "runs": len(runs),
        "disturbed_runs": sum(run.disturbed for run in runs),
        "disturbance": {key: max(a["disturbance"][key] for a in answers) for key in answers[0]["disturbance"]},
        "repeat": _must_be_repeated(runs, speed),
        "tokens_per_s": speed,
        "step_s": median(a["seconds"] / a["steps"] for a in answers),
        "seconds": {phase: median(_per_step(a, phase) for a in answers) for phase in PHASES},
        "backward_s": median(mean(r["backward_s"] for r in a["ranks"]) / a["steps"] for a in answers),
        "shares": {phase: median(_share(a, phase) for a in answers) for phase in PHASES},
        "peak_memory_bytes": [
            max(a["ranks"][rank]["peak_memory_bytes"] for a in answers) for rank in range(point.ranks)
        ],
        "bytes_sent": mean(r["bytes_sent"] / a["steps"] for a in answers for r in a["ranks"]),
    }


def _must_be_repeated(runs: Sequence[Run], speed: dict[str, Any]) -> str:
    """Return why a point's figures are not to be trusted; "" if they are."""
    disturbed = sum(run.disturbed for run in runs)
    if 2 * disturbed >= len(runs):
        return f"other work disturbed {disturbed} of {len(runs)} runs"
    if (width := (speed["max"] - speed["min"]) / speed["median"]) > WIDE:
        return f"the runs are {100 * width:.0f} % apart"
    return ""


def _per_step(answer: dict[str, Any], phase: str) -> float:
    """Return the seconds of a phase in a step, the mean over ranks."""
    return mean(rank["seconds"][phase] for rank in answer["ranks"]) / answer["steps"]


def _share(answer: dict[str, Any], phase: str) -> float:
    return mean(rank["seconds"][phase] / rank["total_s"] for rank in answer["ranks"])


def _fit(mode: str, points: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Fit the law of a mode to the points of more and more ranks, with the threads of the first; None without two."""
    if not points:
        return None
    first = points[0]
    chosen = [
        p
        for p in points
        if p["threads"] == first["threads"]
        and p["ranks"] > first["ranks"]
        and not p["oversubscribed"]
        and p["speed_up"]
    ]
    if not chosen:
        return None
    law = amdahl if mode == "strong" else gustafson
    cores = [p["cores"] / first["cores"] for p in chosen]
    n_rounds = min(len(p["speed_up"]["rounds"]) for p in chosen)
    shares = [law(cores, [p["speed_up"]["rounds"][r] for p in chosen]) for r in range(n_rounds)]
    return {
        "law": "Amdahl" if mode == "strong" else "Gustafson",
        "points": [p["point"] for p in chosen],
        "serial_share": spread(shares),
    }
