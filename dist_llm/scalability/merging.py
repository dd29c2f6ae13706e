"""A study in parts: one job of a batch system for each point, merged when all have been measured.

A part measures its point and the reference, in the same rounds and on the same nodes, so that what is compared was
measured side by side, whenever and wherever a part came out of the queue.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from dist_llm.errors import UserError
from dist_llm.scalability.comparison import read_report
from dist_llm.scalability.measurements import Measurements
from dist_llm.scalability.points import Series
from dist_llm.scalability.report import Comparable

OF_THE_WORK = ("model", "optim", "train", "parallel")  # sections of the configuration that all parts have in common


def read_parts(paths: Sequence[Path]) -> list[Comparable]:
    """Read reports, and all parts in folders; raise `UserError` if there is none, or they are not of one study."""
    files = [file for path in paths for file in (sorted(path.glob("part-*.json")) if path.is_dir() else [path])]
    if not files:
        raise UserError(f"--merge: there is no part-*.json in {', '.join(map(str, paths))}")
    parts = [read_report(file) for file in files]
    first = parts[0].measurements
    for file, part in zip(files[1:], parts[1:], strict=True):
        if different := _different(first, part.measurements):
            raise UserError(f"--merge: {files[0]} and {file} are not of one study: {different}")
    return parts


def _different(one: Measurements, other: Measurements) -> str:
    """Return what keeps two from being parts of one study; "" if nothing does."""
    for section in OF_THE_WORK:
        here, there = (asdict(getattr(measured.config, section)) for measured in (one, other))
        for key, value in here.items():
            if value != there[key]:
                return f"{section}.{key} is {value} and {there[key]}"
    here, there = ({s.mode: (s.sequences, s.points[0]) for s in measured.series} for measured in (one, other))
    for mode in here.keys() & there.keys():
        if here[mode] != there[mode]:
            words = (f"{sequences} sequences relative to {point}" for sequences, point in (here[mode], there[mode]))
            return f"{mode} scaling of {' and of '.join(words)}"
    return ""


def merge(parts: Sequence[Measurements]) -> Measurements:
    """Return the measurements of all parts of a study, at least one."""
    series: dict[str, Series] = {}
    merged = replace(parts[0], series=[], runs=[], failures={}, peaks=[], timings={})
    for part in parts:
        for one in part.series:
            series[one.mode] = _joined(series.get(one.mode, one), one)
        # The rounds of a part have nothing to do with those of another: they get numbers of their own.
        behind = 1 + max((run.round for run in merged.runs), default=-1)
        merged.runs += [replace(run, round=behind + run.round) for run in part.runs]
        merged.failures |= part.failures
        merged.peaks += part.peaks
        merged.timings |= part.timings
        merged.cores = max(merged.cores, part.cores)
        merged.interrupted |= part.interrupted
    merged.series = list(series.values())
    return merged


def _joined(one: Series, other: Series) -> Series:
    points = sorted({*one.points, *other.points}, key=lambda point: (point.cores, -point.ranks))
    left_out = sorted({*one.left_out, *other.left_out}, key=lambda point: (point.cores, -point.ranks))
    return replace(one, points=tuple(points), left_out=tuple(left_out))
