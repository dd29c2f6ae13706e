"""From the rounds' figures to medians, ratios and tables."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from dist_llm.benchmarking.contestants import LONG_CONTEXT, TASKS, Contestant
from dist_llm.benchmarking.phases import OUTSIDE
from dist_llm.benchmarking.spread import spread
from dist_llm.benchmarking.table import aligned

# Below this share of (cores x one core's peak), other programs are probably using some of the cores.
BUSY = 0.75


def summarize(
    team: Sequence[tuple[Contestant, str]],
    rounds: Sequence[dict[str, list[dict[str, Any]]]],
    cores: int,
    flops_per_token: dict[str, int],
) -> dict[str, Any]:
    """Turn what the workers measured into what is reported.

    Parameters
    ----------
    team : sequence of (Contestant, str)
        With what each said about how it works.
    rounds : sequence of dict
        ``rounds[r][name]`` is the list of the processes' answers: seconds, what was done in them, memory, phases.
    cores : int
        Usable cores.
    flops_per_token : dict
        By task, of those in which model FLOPs are counted.

    Returns
    -------
    dict
        ``sgemm_gflops`` (None if it took no part) and ``contestants``. What is compared, is compared within a round,
        and the median taken afterwards: what slows the machine down for longer than a round slows down both. So a
        contestant's ``ratio`` is its speed over its reference's, and ``mfu``, the model FLOPs utilisation, is
        tokens/s x FLOPs per token / the float32 peak of the cores used.
    """
    peaks = None
    if any(contestant.kind == "sgemm" for contestant, _ in team):
        peaks = {
            key: spread([answers["sgemm"][0][f"{key}_gflops"] for answers in rounds])
            for key in ("one_core", "all_cores")
        }
    runners = [(contestant, setup) for contestant, setup in team if contestant.kind != "sgemm"]
    speeds = {c.name: [_speed(c, answers[c.name]) for answers in rounds] for c, _ in runners}
    results = []
    for c, setup in runners:
        used = min(cores, c.processes * c.threads)
        reference = _reference(c, [other for other, _ in runners], cores)
        ratio = mfu = None
        if reference is not None:
            ratio = spread([mine / its for mine, its in zip(speeds[c.name], speeds[reference], strict=True)])
        if peaks is not None and c.task in flops_per_token:
            flops = [speed * flops_per_token[c.task] for speed in speeds[c.name]]
            mfu = spread([f / (1e9 * _peak(peaks, r, used, cores)) for r, f in enumerate(flops)])
        results.append(
            {
                "name": c.name,
                "task": c.task,
                "kind": c.kind,
                "processes": c.processes,
                "threads": c.threads,
                "setup": setup,
                "unit": TASKS[c.task].unit,
                "speed": spread(speeds[c.name]),
                "reference": reference,
                "ratio": ratio,
                "mfu": mfu,
                "communication": _communication([answers[c.name] for answers in rounds]),
                "phases": _phases([answers[c.name] for answers in rounds]),
                "peak_memory_bytes": [
                    max(answers[c.name][rank]["peak_memory_bytes"] for answers in rounds) for rank in range(c.processes)
                ],
            }
        )
    return {"sgemm_gflops": peaks, "contestants": results}


def _speed(contestant: Contestant, answers: Sequence[dict[str, Any]]) -> float:
    """Return what all processes did, by the time of the slowest."""
    amount = sum(answer["amount"] for answer in answers) / TASKS[contestant.task].scale
    return amount / max(answer["seconds"] for answer in answers)


def _reference(contestant: Contestant, everyone: Sequence[Contestant], cores: int) -> str | None:
    """Return this project's way to do the same task on as many cores, of several the one with most processes."""

    def used(c: Contestant) -> int:
        return min(cores, c.processes * c.threads)

    ours = [c for c in everyone if c.kind == "numpy" and c.task == contestant.task]
    alike = [c for c in ours if used(c) == used(contestant)]
    if contestant.task == "generation":  # a single text: more cores are an attempt to be faster at the same
        alike = ours
    return max(alike, key=lambda c: c.processes).name if alike else None


def _peak(peaks: dict[str, Any], number: int, used: int, cores: int) -> float:
    """Return the peak of the cores used: all together may be slower than each alone times their number."""
    if used == cores and cores > 1:
        return peaks["all_cores"]["rounds"][number]
    return used * peaks["one_core"]["rounds"][number]


def _phases(rounds: Sequence[Sequence[dict[str, Any]]]) -> dict[str, float] | None:
    """Return each phase's share of the time: the median over rounds of the mean over processes; None without clocks."""
    if "phases" not in rounds[0][0]:
        return None

    def share(answers: Sequence[dict[str, Any]], phase: str) -> float:
        return sum(answer["phases"][phase] / answer["seconds"] for answer in answers) / len(answers)

    return {phase: median(share(answers, phase) for answers in rounds) for phase in rounds[0][0]["phases"]}


def _communication(rounds: Sequence[Sequence[dict[str, Any]]]) -> dict[str, float] | None:
    """Return what a step's communication costs: the mean over ranks and rounds; None without ranks."""
    if "communication" not in rounds[0][0] or len(rounds[0]) == 1:
        return None
    answers = [answer for answers in rounds for answer in answers]
    steps = sum(answer["steps"] for answer in answers)
    return {key: sum(answer["communication"][key] for answer in answers) / steps for key in ("exposed_s", "bytes_sent")}


def text(report: dict[str, Any]) -> str:
    """Return the report as tables and the words that they need."""
    lines: list[str] = []
    for key, task in TASKS.items():
        chosen = [c for c in report["contestants"] if c["task"] == key]
        if chosen:
            lines += [f"{task.title}, {task.unit}", *_results(chosen), ""]
    with_phases = [c for c in report["contestants"] if c["phases"]]
    if with_phases:
        lines += ["where the time goes, % of a training step", *_phase_table(with_phases), ""]
    with_ranks = [c for c in report["contestants"] if c["communication"]]
    if with_ranks:
        lines += ["communication in a step: what a rank waits for, and sends", *_communication_table(with_ranks), ""]
    lines += _peak_lines(report)
    flops = report["flops_per_token"]
    lines.append(
        f"FLOPs per token = {report['flops_formula']} = {flops['step'] / 1e6:,.2f} million"
        f" ({flops['long'] / 1e6:,.2f} with {LONG_CONTEXT:,} tokens)"
    )
    lines += [f"{c['name']}: {c['setup']}" for c in report["contestants"]]
    reasons: dict[str, list[str]] = {}
    for name, reason in report["left_out"].items():
        reasons.setdefault(reason, []).append(name)
    lines += [f"left out: {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    return "\n".join(lines)


def _results(contestants: Sequence[dict[str, Any]]) -> list[str]:
    rows = [("", "processes", "threads", "median", "(min..max)", "ratio", "to", "MFU", "peak memory")]
    for c in contestants:
        speed, ratio, mfu = c["speed"], c["ratio"], c["mfu"]
        digits = 0 if speed["median"] >= 100 else 2
        is_reference = c["reference"] == c["name"]
        rows.append(
            (
                c["name"],
                str(c["processes"]),
                str(c["threads"]),
                f"{speed['median']:,.{digits}f}",
                f"({speed['min']:,.{digits}f}..{speed['max']:,.{digits}f})",
                "-" if ratio is None or is_reference else f"{ratio['median']:.2f}",
                "-" if ratio is None or is_reference else c["reference"],
                "-" if mfu is None else f"{100 * mfu['median']:.0f} %",
                f"{sum(c['peak_memory_bytes']) / 1e6:,.0f} MB",
            )
        )
    return aligned(rows, left=(0, 6))


def _phase_table(contestants: Sequence[dict[str, Any]]) -> list[str]:
    phases = list(contestants[0]["phases"])
    rows = [("", *phases, "outside the model")]
    for c in contestants:
        outside = sum(c["phases"][phase] for phase in OUTSIDE)
        rows.append((c["name"], *(f"{100 * share:.1f}" for share in (*c["phases"].values(), outside))))
    return [
        *aligned(rows, left=(0,)),
        f"outside the model: {', '.join(OUTSIDE)} (zeroing, metrics); clipping counts as reduction",
    ]


def _communication_table(contestants: Sequence[dict[str, Any]]) -> list[str]:
    rows = [("", "exposed ms", "MB sent")]
    for c in contestants:
        exposed, sent = c["communication"]["exposed_s"], c["communication"]["bytes_sent"]
        rows.append((c["name"], f"{1e3 * exposed:.2f}", f"{sent / 1e6:.3f}"))
    return aligned(rows, left=(0,))


def _peak_lines(report: dict[str, Any]) -> list[str]:
    peaks, cores = report["sgemm_gflops"], report["machine"]["cores"]
    if peaks is None:
        return []
    one, every = (
        f"{p['median']:,.0f} ({p['min']:,.0f}..{p['max']:,.0f})" for p in (peaks["one_core"], peaks["all_cores"])
    )
    lines = [
        f"sgemm peak, GFLOP/s: {one} on one core, {every} on all {cores}",
        "MFU = tokens/s x FLOPs per token / float32 peak of the cores used, in the same round; the median",
    ]
    share = peaks["all_cores"]["median"] / (cores * peaks["one_core"]["median"])
    if share < BUSY:
        lines.append(f"(together the cores reach {100 * share:.0f} % of what each does alone: others are at work here)")
    return lines
