"""What is measured: points of so many ranks with so many threads, in series of a fixed batch or a growing one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dist_llm.errors import UserError

MODES = ("strong", "weak")


@dataclass(frozen=True)
class Point:
    """A way to use cores: ranks, and BLAS threads of each."""

    ranks: int
    threads: int

    @property
    def cores(self) -> int:
        """Cores that are busy when each thread has one."""
        return self.ranks * self.threads

    def __str__(self) -> str:
        return f"{self.ranks}x{self.threads}"


@dataclass(frozen=True)
class Series:
    """Points that are compared with each other: strong, on one batch, or weak, on one that grows with the ranks."""

    mode: str
    sequences: int  # of the batch, over all ranks together (strong) or of each rank (weak)
    points: tuple[Point, ...]  # in the order of cores; the first is the one that speed-up is relative to
    left_out: tuple[Point, ...] = ()  # those with more ranks than the batch has sequences

    def batch_size(self, point: Point) -> int:
        """Return the sequences of a step over all ranks together."""
        return self.sequences * (point.ranks if self.mode == "weak" else 1)


def choose_points(wish: str | None, cores: int, local_cores: int, part: str | None = None) -> list[Point]:
    """Return the points to measure, by cores, and among those of as many cores the one of most ranks first.

    Unless the user names some, they are 1, 2, 4, ... ranks of one thread up to all cores, and all cores in every other
    division. One process with as many threads joins each number of cores that this host has. Of a study in parts, it
    is the part and what it is compared with.
    """
    ranks = {1 << power for power in range(cores.bit_length())}
    divisions = [Point(n, cores // n) for n in range(1, cores + 1) if cores % n == 0]
    points = parse_points(wish) if wish else [*(Point(n, 1) for n in ranks), *divisions]
    points.sort(key=_by_cores)
    if part is not None:
        (measured,) = parse_points(part, "--part", 1)
        if measured not in points:
            raise UserError(f"--part {part} is none of the points {', '.join(map(str, points))}")
        points = [points[0], measured]
    points += [Point(1, point.cores) for point in points if point.cores <= local_cores]
    return sorted(set(points), key=_by_cores)


def _by_cores(point: Point) -> tuple[int, int]:
    return point.cores, -point.ranks


def parse_points(text: str, option: str = "--points", most: int | None = None) -> list[Point]:
    """Turn ``1x1,2x1,1x2`` (ranks x threads) into points; raise `UserError` if it is something else."""
    words = [re.fullmatch(r"\s*([1-9]\d{0,5})x([1-9]\d{0,5})\s*", word) for word in text.split(",")]
    if not all(words) or len(words) > (most or len(words)):
        form = "RANKSxTHREADS such as 4x1" if most else "RANKSxTHREADS,RANKSxTHREADS such as 1x1,2x1,1x2"
        raise UserError(f"{option} takes {form}, not {text!r}")
    return [Point(int(word[1]), int(word[2])) for word in words if word]


def make_series(mode: str, points: Sequence[Point], sequences: int) -> Series:
    """Return the series of a mode; raise `UserError` if no rank of a point would have a sequence of a fixed batch."""
    chosen = [point for point in points if mode == "weak" or point.ranks <= sequences]
    if not chosen:
        raise UserError(
            f"--points: all have more ranks than the {sequences} sequences of a batch; raise --train.batch_size, or "
            "choose --mode weak"
        )
    return Series(mode, sequences, tuple(chosen), tuple(point for point in points if point not in chosen))
