"""The first lines of a report: what was found, and what stands against believing it."""

from collections.abc import Iterator, Sequence
from typing import Any

PRESENTLY_BUSY = 0.05  # of the usable cores' time before the first run
UNSTEADY = 0.1  # between the peaks of the rounds


def verdict(report: dict[str, Any]) -> list[str]:
    """Return a line for each series; one whose ranks lose to the threads of one process comes first."""
    lines = [(_headline(series)) for series in report["series"] if series["points"]]
    return [line for _, line in sorted(lines, key=lambda pair: pair[0])]


def _headline(series: dict[str, Any]) -> tuple[int, str]:
    """Return the line, and 0 if it says that ranks lose, else 1."""
    first = series["points"][0]
    name = f"{series['mode']} scaling"
    counted = [p for p in series["points"] if not p["oversubscribed"]]
    cores = max((p["cores"] for p in counted), default=1)
    divided = [p for p in counted if p["cores"] == cores and p["ranks"] > 1]
    if not divided:
        speed = first["tokens_per_s"]["median"]
        return 1, f"{name}: {first['point']} reaches {speed:,.0f} tokens/s; no point of several ranks was measured"
    best = max(divided, key=lambda p: p["tokens_per_s"]["median"])
    against = best["to_one_process"]
    comparison = ""
    if against is not None:
        if against["median"] < 1:
            return 0, (
                f"RANKS LOSE ({name}): on {cores} cores, one process with {cores} BLAS threads is "
                f"{1 / against['median']:.2f} times as fast as {best['point']}, the best division into ranks "
                f"({_range(against, 2)} of its speed)"
            )
        comparison = f"; {against['median']:.2f} times one process with {cores} BLAS threads ({_range(against, 2)})"
    speed = best["tokens_per_s"]["median"]
    if best is first:
        return 1, f"{name}: {best['point']} reaches {speed:,.0f} tokens/s{comparison}"
    efficiency = best["efficiency"]
    return 1, (
        f"{name}: {best['point']} (ranks x threads) reaches {speed:,.0f} tokens/s, "
        f"{best['speed_up']['median']:.2f} times {first['point']}: {100 * efficiency['median']:.1f} % efficient "
        f"({_range(efficiency, 1, 100)}){comparison}"
    )


def warnings(report: dict[str, Any]) -> list[str]:
    """Return what a reader must know before believing the figures, and what to do about it."""
    return [
        *_failures(report),
        *_losses(report),
        *_machine(report["environment"]),
        *_peaks(report["peaks"]),
        *_points_to_repeat(report),
        *_oversubscribed(report),
    ]


def _failures(report: dict[str, Any]) -> Iterator[str]:
    for point, reason in report["failures"].items():
        yield f"{point} failed and is missing: {reason}"


def _losses(report: dict[str, Any]) -> Iterator[str]:
    for series in report["series"]:
        losses = series.get("losses")
        if losses and losses["equal"] is False:
            values = ", ".join(f"{point} {loss:.6f}" for point, loss in losses["by_point"].items())
            yield (
                f"THE LOSSES DIFFER: after {losses['step']} steps on the same batches they should be equal to "
                f"{losses['tolerance']:g}, and are {losses['difference']:.1g} apart ({values}): these points do not "
                "do the same work, and their speeds cannot be compared"
            )


def _machine(environment: dict[str, Any]) -> Iterator[str]:
    busy = environment["busy_before"]
    if busy and sum(busy) / len(busy) > PRESENTLY_BUSY:
        others = ", ".join(f"{p['name']} ({p['cores']:.1f} cores)" for p in environment["others_before"][:3])
        yield (
            f"before the first run the cores were {100 * sum(busy) / len(busy):.0f} % busy"
            f"{f' with {others}' if others else ''}: end other work and measure again"
        )
    governor = environment["frequency_governor"]
    if governor not in (None, "performance"):
        yield (
            f"the cores' frequency is set by '{governor}' and may change from run to run: "
            "cpupower frequency-set -g performance keeps it"
        )


def _peaks(peaks: Sequence[dict[str, float]]) -> Iterator[str]:
    """Neighbours on the same hardware are not in any statistics of this system, but in what it can do."""
    for key, cores in (("one_core", "one core"), ("all_cores", "all cores")):
        least, most = (extreme(peak[key] for peak in peaks) for extreme in (min, max))
        if least < (1 - UNSTEADY) * most:
            yield (
                f"the machine itself was not steady: between rounds, matrix products on {cores} reached "
                f"{least:.0f} to {most:.0f} GFLOP/s; something outside of this system shares its hardware"
            )


def _points_to_repeat(report: dict[str, Any]) -> Iterator[str]:
    points: dict[str, None] = {}
    for series in report["series"]:
        doubtful = [p for p in series["points"] if p["repeat"]]
        if doubtful:
            reasons = ", ".join(f"{p['point']} ({p['repeat']})" for p in doubtful)
            yield f"{series['mode']} scaling: to be repeated: {reasons}"
            points |= dict.fromkeys([series["reference"], *(p["point"] for p in doubtful)])
    if points:
        yield f"measure them again, with their reference, by --points {','.join(points)} on a quiet machine"


def _oversubscribed(report: dict[str, Any]) -> Iterator[str]:
    found = dict.fromkeys(p["point"] for series in report["series"] for p in series["points"] if p["oversubscribed"])
    if found:
        yield (
            f"oversubscribed: {', '.join(found)} have more threads than cores, which take turns; their figures are "
            "shown and not counted as scaling"
        )


def _range(values: dict[str, Any], digits: int, factor: float = 1) -> str:
    return f"{factor * values['min']:.{digits}f}..{factor * values['max']:.{digits}f}"
