"""The first lines of a report: what was found, or that nothing is concluded; and what stands against believing it."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from dist_llm.measuring.machine import Machine
from dist_llm.measuring.peak import Peak
from dist_llm.scalability.analysis import PointResult, SeriesResult
from dist_llm.scalability.measurements import Measurements

PRESENTLY_BUSY = 0.05  # of the usable cores' time before the first run
UNSTEADY = 0.1  # between the peaks of the rounds
NO_VERDICT, RANKS_LOSE = "NO VERDICT", "RANKS LOSE"  # what the lines begin with that come first


def verdict(series: Sequence[SeriesResult]) -> list[str]:
    """Return a line for each series: first those without a verdict, then those whose ranks lose to threads."""
    lines = [_headline(one) for one in series if one.points]
    return sorted(lines, key=lambda line: (not line.startswith(NO_VERDICT), not line.startswith(RANKS_LOSE)))


def _headline(series: SeriesResult) -> str:
    first, name = series.points[0], f"{series.mode} scaling"
    at_stake = [p for p in series.points if not p.oversubscribed]
    cores = max((p.cores for p in at_stake), default=1)
    at_stake = [p for p in at_stake if p.cores == cores or p is first]
    doubts = [f"{p.point} ({p.doubt})" for p in at_stake if p.doubt]
    if doubts:
        return f"{NO_VERDICT} on {name}: {', '.join(doubts)}; nothing is concluded from it"
    divided = [p for p in at_stake if p.cores == cores and p.ranks > 1]
    if not divided:
        reached = f"{first.point} reaches {first.tokens_per_s.middle(0)} tokens/s"
        return f"{name}: {reached}; no point of several ranks was measured"
    return _of_best(max(divided, key=lambda p: p.tokens_per_s.median), first, name)


def _of_best(best: PointResult, first: PointResult, name: str) -> str:
    """Return the line on the best division of all cores into ranks."""
    against, speed, comparison = best.to_one_process, best.tokens_per_s.middle(0), ""
    one_process = f"one process with {best.cores} BLAS threads"
    if against is not None:
        low, high = against.interval or [against.min, against.max]
        if high < 1:
            return (
                f"{RANKS_LOSE} ({name}): on {best.cores} cores, {one_process} is {1 / against.median:.2f} times as "
                f"fast as {best.point}, the best division into ranks ({against.confidence(2)} of its speed)"
            )
        comparison = f"; {against.middle(2)} times {one_process} ({against.confidence(2)})"
        if low <= 1:
            comparison = f"; not distinguishable from {one_process} ({against.confidence(2)} of its speed)"
    if best is first or best.speed_up is None or best.efficiency is None:
        return f"{name}: {best.point} reaches {speed} tokens/s{comparison}"
    reached = f"{best.point} (ranks x threads) reaches {speed} tokens/s, {best.speed_up.middle(2)} times {first.point}"
    efficient = f"{best.efficiency.middle(1, 100)} % efficient ({best.efficiency.confidence(1, 100)})"
    return f"{name}: {reached}: {efficient}{comparison}"


def warnings(measured: Measurements, series: Sequence[SeriesResult], machine: Machine) -> list[str]:
    """Return what a reader must know before believing the figures, and what to do about it."""
    return [
        *(["the measurement was interrupted: its last round is not complete"] if measured.interrupted else []),
        *(f"{point} failed and is missing: {reason}" for point, reason in measured.failures.items()),
        *_losses(series),
        *_doubts(series),
        *_wide(series, measured.method.width),
        *_machine(machine),
        *_peaks(measured.peaks),
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


def _doubts(series: Sequence[SeriesResult]) -> Iterator[str]:
    for one in series:
        doubtful = [f"{p.point} ({p.doubt})" for p in one.points if p.doubt]
        if doubtful:
            yield f"{one.mode} scaling, without results: {', '.join(doubtful)}"
    disturbed = [p for one in series for p in one.points if p.doubt and p.disturbed_runs]
    if disturbed:
        worst = max(disturbed, key=lambda p: p.disturbance.other + p.disturbance.stolen).disturbance
        yield (
            f"other programs had up to {100 * worst.other:.1f} % of the cores' time, other virtual machines up to "
            f"{100 * worst.stolen:.1f} %: end what else runs here, or give more time with --patience MINUTES"
        )


def _wide(series: Sequence[SeriesResult], width: float) -> Iterator[str]:
    for one in series:
        spreads = {p.point: p.efficiency for p in one.points if p.efficiency and not (p.doubt or p.oversubscribed)}
        wide = [f"{p} ({s.confidence(1, 100)})" for p, s in spreads.items() if not s.is_within(width)]
        if wide:
            yield (
                f"{one.mode} scaling: the 95 % intervals of efficiency are wider than the {100 * width:g} % asked for: "
                f"{', '.join(wide)}; more --patience narrows them"
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


def _oversubscribed(series: Sequence[SeriesResult]) -> Iterator[str]:
    found = dict.fromkeys(p.point for one in series for p in one.points if p.oversubscribed)
    if found:
        names = ", ".join(found)
        yield f"oversubscribed: {names} have more threads than cores, which take turns: shown, not counted as scaling"
