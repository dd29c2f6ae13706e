"""From the rounds' figures to medians, ratios, a table and a picture."""

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from dist_llm.benchmarking.contestants import Contestant

# What a contestant is compared with: the first of these that takes part and uses as many cores.
REFERENCES = ("numpy-Nx1", "numpy-1x1", "numpy-1xALL")
# Below this share of (cores x one core's peak), other programs are probably using some of the cores.
BUSY = 0.75


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return median, extremes and the values themselves, one per round."""
    return {"median": median(values), "min": min(values), "max": max(values), "rounds": list(values)}


def summarize(
    team: Sequence[tuple[Contestant, str]],
    rounds: Sequence[dict[str, list[dict[str, Any]]]],
    cores: int,
    tokens_per_turn: int,
    flops_per_token: int,
) -> dict[str, Any]:
    """Turn what the workers measured into what is reported.

    Parameters
    ----------
    team : sequence of (Contestant, str)
        With what each said about how it works.
    rounds : sequence of dict
        ``rounds[r][name]`` is the list of the processes' answers.
    cores : int
        Usable cores.
    tokens_per_turn : int
        That all processes of a contestant together train on in a turn.
    flops_per_token : int

    Returns
    -------
    dict
        ``sgemm_gflops`` (None if it took no part) and ``contestants``. A contestant's ``ratio`` is the median over the
        rounds of its speed divided by its reference's in the same round: what slows down the machine for longer than
        a round slows down both. ``mfu``, the model FLOPs utilisation, is tokens/s x FLOPs per token / peak of the cores
        used: the median speed by the highest peak of all rounds.
    """
    peaks = None
    if any(contestant.kind == "sgemm" for contestant, _ in team):
        peaks = {
            key: spread([answers["sgemm"][0][f"{key}_gflops"] for answers in rounds])
            for key in ("one_core", "all_cores")
        }
    trainers = [(contestant, setup) for contestant, setup in team if contestant.kind != "sgemm"]
    speeds = {
        c.name: [tokens_per_turn / max(answer["seconds"] for answer in answers[c.name]) for answers in rounds]
        for c, _ in trainers
    }
    used = {c.name: min(cores, c.processes * c.threads) for c, _ in trainers}
    results = []
    for c, setup in trainers:
        reference = next((name for name in REFERENCES if name in speeds and used[name] == used[c.name]), None)
        ratio = mfu = None
        if reference is not None:
            ratio = spread([mine / its for mine, its in zip(speeds[c.name], speeds[reference], strict=True)])
        if peaks is not None:
            mfu = median(speeds[c.name]) * flops_per_token / (1e9 * _peak_gflops(peaks, used[c.name], cores))
        memory = [max(answers[c.name][rank]["peak_memory_bytes"] for answers in rounds) for rank in range(c.processes)]
        results.append(
            {
                "name": c.name,
                "processes": c.processes,
                "threads": c.threads,
                "setup": setup,
                "tokens_per_s": spread(speeds[c.name]),
                "reference": reference,
                "ratio": ratio,
                "mfu": mfu,
                "peak_memory_bytes": memory,
            }
        )
    return {"sgemm_gflops": peaks, "contestants": results}


def _peak_gflops(peaks: dict[str, Any], used: int, cores: int) -> float:
    """Return the peak of the cores used: all together may be slower than each alone times their number."""
    if used == cores and cores > 1:
        return peaks["all_cores"]["max"]
    return used * peaks["one_core"]["max"]


def table(report: dict[str, Any]) -> str:
    """Return the report as text."""
    rows = [("contestant", "processes", "threads", "tokens/s", "(min..max)", "ratio", "to", "MFU", "peak memory")]
    for c in report["contestants"]:
        speed, ratio, mfu = c["tokens_per_s"], c["ratio"], c["mfu"]
        extremes = f"({speed['min']:,.0f}..{speed['max']:,.0f})"
        is_reference = c["reference"] == c["name"]
        rows.append(
            (
                c["name"],
                str(c["processes"]),
                str(c["threads"]),
                f"{speed['median']:,.0f}",
                extremes,
                "-" if ratio is None or is_reference else f"{ratio['median']:.2f}",
                "-" if ratio is None or is_reference else c["reference"],
                "-" if mfu is None else f"{100 * mfu:.0f} %",
                f"{sum(c['peak_memory_bytes']) / 1e6:,.0f} MB",
            )
        )
    lines = []
    if len(rows) > 1:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            name, *cells = (
                text.ljust(width) if column in (0, 6) else text.rjust(width)
                for column, (text, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join([name, *cells]).rstrip())
        lines.append("")
    peaks = report["sgemm_gflops"]
    if peaks is not None:
        one, every = (
            f"{p['median']:,.0f} ({p['min']:,.0f}..{p['max']:,.0f})" for p in (peaks["one_core"], peaks["all_cores"])
        )
        lines.append(f"sgemm peak, GFLOP/s: {one} on one core, {every} on all {report['machine']['cores']}")
        lines.append("MFU = median tokens/s x FLOPs per token / highest float32 peak of the cores used")
        share = peaks["all_cores"]["median"] / (report["machine"]["cores"] * peaks["one_core"]["median"])
        if share < BUSY:
            lines.append(
                f"(together the cores reach {100 * share:.0f} % of what each does alone: others are at work here)"
            )
    lines.append(f"FLOPs per token = {report['flops_formula']} = {report['flops_per_token'] / 1e6:,.2f} million")
    lines += [f"{c['name']}: {c['setup']}" for c in report["contestants"]]
    reasons: dict[str, list[str]] = {}
    for name, reason in report["left_out"].items():
        reasons.setdefault(reason, []).append(name)
    lines += [f"left out: {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    return "\n".join(lines)


def draw(report: dict[str, Any], path: Path) -> bool:
    """Draw the speeds as bars, with their spread; return False without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    contestants = report["contestants"]
    medians = [c["tokens_per_s"]["median"] for c in contestants]
    below = [c["tokens_per_s"]["median"] - c["tokens_per_s"]["min"] for c in contestants]
    above = [c["tokens_per_s"]["max"] - c["tokens_per_s"]["median"] for c in contestants]
    labels = [f"{c['name']}\n{c['processes']} x {c['threads']}" for c in contestants]
    figure = Figure(figsize=(8, 1.2 + 0.5 * len(contestants)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colors = ["tab:blue" if c["name"].startswith("numpy") else "tab:orange" for c in contestants]
    axes.barh(labels, medians, xerr=[below, above], color=colors, alpha=0.8, ecolor="black", capsize=3)
    for row, c in enumerate(contestants):
        if c["mfu"] is not None:
            axes.text(0, row, f"  {100 * c['mfu']:.0f} % of peak", va="center", color="white", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("tokens/s: median, least and most over the rounds")
    axes.set_title(f"a training step of {report['parameters']:,} parameters; processes x threads", fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="png", dpi=120)
    os.replace(temporary, path)
    return True
