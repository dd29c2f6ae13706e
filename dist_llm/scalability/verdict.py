"""The first lines of a report: what was found, and what stands against believing it."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from dist_llm.measuring.machine import Machine
from dist_llm.measuring.peak import Peak
from dist_llm.scalability.analysis import SeriesResult
from dist_llm.scalability.study import Study

PRESENTLY_BUSY = 0.05  # of the usable cores' time before the first run
UNSTEADY = 0.1  # between the peaks of the rounds


def verdict(series: Sequence[SeriesResult]) -> list[str]:
    """Return a line for each series; one whose ranks lose to the threads of one process comes first."""
    lines = [_headline(one) for one in series if one.points]
    return [line for _, line in sorted(lines, key=lambda pair: pair[0])]


def _headline(series: SeriesResult) -> tuple[int, str]:
    """Return the line, and 0 if it says that ranks lose, else 1."""
    first, name = series.points[0], f"{series.mode} scaling"
    counted = [p for p in series.points if not p.oversubscribed]
    cores = max((p.cores for p in counted), default=1)
    divided = [p for p in counted if p.cores == cores and p.ranks > 1]
    if not divided:
        reached = f"{first.point} reaches {first.tokens_per_s.middle(0)} tokens/s"
        return 1, f"{name}: {reached}; no point of several ranks was measured"
    best = max(divided, key=lambda p: p.tokens_per_s.median)
    against, speed = best.to_one_process, best.tokens_per_s.middle(0)
    comparison = ""
    one_process = f"one process with {cores} BLAS threads"
    if against is not None:
        if against.median < 1:
            return 0, (
                f"RANKS LOSE ({name}): on {cores} cores, {one_process} is {1 / against.median:.2f} times as fast as "
                f"{best.point}, the best division into ranks ({against.range(2)} of its speed)"
            )
        comparison = f"; {against.middle(2)} times {one_process} ({against.range(2)})"
    if best is first or best.speed_up is None or best.efficiency is None:
        return 1, f"{name}: {best.point} reaches {speed} tokens/s{comparison}"
    reached = f"{best.point} (ranks x threads) reaches {speed} tokens/s, {best.speed_up.middle(2)} times {first.point}"
    efficient = f"{best.efficiency.middle(1, 100)} % efficient ({best.efficiency.range(1, 100)})"
    return 1, f"{name}: {reached}: {efficient}{comparison}"


def warnings(study: Study, series: Sequence[SeriesResult], machine: Machine) -> list[str]:
    """Return what a reader must know before believing the figures, and what to do about it."""
    return [
        *(["the measurement was interrupted: its last round is not complete"] if study.interrupted else []),
        *(f"{point} failed and is missing: {reason}" for point, reason in study.failures.items()),
        *_losses(series),
        *_machine(machine),
        *_peaks(study.peaks),
        *_points_to_repeat(series),
        *_oversubscribed(series),
    ]


def _losses(series: Sequence[SeriesResult]) -> Iterator[str]:
    for losses in (one.losses for one in series if one.losses and one.losses.equal is False):
        values = ", ".join(f"{point} {loss:.6f}" for point, loss in losses.by_point.items())
        yield (
            f"THE LOSSES DIFFER: after {losses.step} steps on the same batches they should be equal to "
            f"{losses.tolerance:g}, and are {losses.difference:.1g} apart ({values}): these points do not do the same "
            "work, and their speeds cannot be compared"
        )


def _machine(machine: Machine) -> Iterator[str]:
    busy, governor = fmean(machine.busy_before or [0.0]), machine.frequency_governor
    if busy > PRESENTLY_BUSY:
        others = ", ".join(f"{p.name} ({p.cores:.1f} cores)" for p in machine.others_before[:3])
        named = f" with {others}" if others else ""
        yield f"before the first run the cores were {100 * busy:.0f} % busy{named}: end other work and measure again"
    if governor not in (None, "performance"):
        keep = "cpupower frequency-set -g performance keeps it"
        yield f"the cores' frequency is set by '{governor}' and may change from run to run: {keep}"


def _peaks(peaks: Sequence[Peak]) -> Iterator[str]:
    """Neighbours on the same hardware are not in any statistics of this system, but in what it can do."""
    for cores, figures in (("one core", [p.one_core for p in peaks]), ("all cores", [p.all_cores for p in peaks])):
        if min(figures) < (1 - UNSTEADY) * max(figures):
            yield (
                f"the machine itself was not steady: between rounds, matrix products on {cores} reached "
                f"{min(figures):.0f} to {max(figures):.0f} GFLOP/s; something outside of this system shares its "
                "hardware"
            )


def _points_to_repeat(series: Sequence[SeriesResult]) -> Iterator[str]:
    points: dict[str | None, None] = {}
    for one in series:
        doubtful = [p for p in one.points if p.repeat]
        if doubtful:
            yield f"{one.mode} scaling: to be repeated: {', '.join(f'{p.point} ({p.repeat})' for p in doubtful)}"
            points |= dict.fromkeys([one.reference, *(p.point for p in doubtful)])
    if points:
        named = ",".join(str(point) for point in points)
        yield f"measure them again, with their reference, by --points {named} on a quiet machine"


def _oversubscribed(series: Sequence[SeriesResult]) -> Iterator[str]:
    found = dict.fromkeys(p.point for one in series for p in one.points if p.oversubscribed)
    if found:
        names = ", ".join(found)
        yield f"oversubscribed: {names} have more threads than cores, which take turns: shown, not counted as scaling"
