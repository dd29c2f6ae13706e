"""The timed all-reduces, in the forms of the two benchmarks that everybody has parsers for.

``osu_allreduce`` of the OSU Micro-Benchmarks (MVAPICH, version 7.4) prints the time by size. ``all_reduce_perf`` of
nccl-tests (NVIDIA, version 2.19) adds two bandwidths, of S bytes in t seconds on n ranks, in GB/s of 1e9 bytes, as its
doc/PERFORMANCE.md defines them:

    algbw = S / t
    busbw = algbw * 2 (n - 1) / n

busbw is what a link carries if each rank sends as little as an all-reduce allows, whatever the number of ranks. What
was not measured here is not made up: OSU's optional columns Min and Max are those over ranks, and are left out; there
is no out-of-place operation, and results are not checked, so that nccl-tests' columns for these say N/A.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

ENCODED = "all-to-all, all-gather"  # operates on bytes that encode numbers; all others on float32
WIDTHS = (12, 12, 8, 6, 6, 7, 6, 6, 6, 7, 6, 6, 6)  # of the columns of nccl-tests


@dataclass(frozen=True)
class Timing:
    """The operation on an array of so many bytes: seconds on the slowest rank, the mean of each batch."""

    n_bytes: int
    seconds: Sequence[float]

    @property
    def median_s(self) -> float:
        """The figure that the report shows."""
        return median(self.seconds)

    @property
    def algorithm_bandwidth(self) -> float:
        """GB/s of the array."""
        return self.n_bytes / self.median_s / 1e9


@dataclass(frozen=True)
class AllReduces:
    """What was timed on a number of ranks."""

    ranks: int
    operation: str  # as in `Traffic`
    timings: Sequence[Timing]
    origin: str  # who measured, when and where

    def heading(self, tool: str) -> list[str]:
        """Return the lines before the tool's own, which say that these are not its measurements."""
        batches = max(len(timing.seconds) for timing in self.timings)
        figure = f"the slowest rank's time, median of {batches} batches" if batches > 1 else "the slowest rank's time"
        return [
            f"# Not by {tool}, but in its form: measured by {self.origin}",
            f"# {self.ranks} ranks; {self.operation}, in place, one behind the other; {figure}",
        ]


def osu(measured: AllReduces) -> str:
    """Return the output of ``osu_allreduce``."""
    datatype = "MPI_UNSIGNED_CHAR" if measured.operation == ENCODED else "MPI_FLOAT"
    return _lines(
        *measured.heading("osu_allreduce"),
        "",
        "# OSU MPI Allreduce Latency Test v7.4",
        f"# Datatype: {datatype}.",
        f"{'# Size':<10}{'Avg Latency(us)':>20}",
        *(f"{timing.n_bytes:<10}{1e6 * timing.median_s:>20.2f}" for timing in measured.timings),
    )


def nccl_tests(measured: AllReduces) -> str:
    """Return the output of ``all_reduce_perf``."""
    figures, units = ("time", "algbw", "busbw", "#wrong"), ("(us)", "(GB/s)", "(GB/s)", "")
    bus_bandwidths = [bus_bandwidth(measured.ranks, timing) for timing in measured.timings]
    return _lines(
        *measured.heading("all_reduce_perf"),
        "# Collective test starting: all_reduce_perf",
        "#",
        f"#{'out-of-place':>74}{'in-place':>31}",
        _comment(_row("size", "count", "type", "redop", "root", *figures, *figures)),
        _comment(_row("(B)", "(elements)", "", "", "", *units, *units)),
        *(_nccl_row(measured, timing) for timing in measured.timings),
        f"# {'Out of bounds values':<20} : 0 OK",
        f"# {'Avg bus bandwidth':<20} : {fmean(bus_bandwidths):g}",
        "#",
        "# Collective test concluded: all_reduce_perf",
    )


def bus_bandwidth(ranks: int, timing: Timing) -> float:
    """Return GB/s of a link."""
    return timing.algorithm_bandwidth * 2 * (ranks - 1) / ranks


def _nccl_row(measured: AllReduces, timing: Timing) -> str:
    n_bytes, encoded = timing.n_bytes, measured.operation == ENCODED
    of_what = (str(n_bytes), str(n_bytes // (1 if encoded else 4)), "uint8" if encoded else "float", "sum", "-1")
    bandwidths = (timing.algorithm_bandwidth, bus_bandwidth(measured.ranks, timing))
    in_place = (_fitting(1e6 * timing.median_s, 7), *(_fitting(bandwidth, 6) for bandwidth in bandwidths))
    return _row(*of_what, *("N/A",) * 4, *in_place, "N/A")


def _row(*cells: str) -> str:
    return "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))


def _comment(row: str) -> str:
    return f"#{row[1:]}"


def _fitting(value: float, width: int) -> str:
    """Return a number with two decimals, or as many as have room."""
    for digits in (2, 1, 0):
        text = f"{value:{width}.{digits}f}"
        if len(text) <= width:
            return text
    return f"{value:{width}.{1 if width >= 7 else 0}e}"


def _lines(*lines: str) -> str:
    return "\n".join(line.rstrip() for line in lines) + "\n"
