"""What the report says of the measured points, the machine and the method."""

from collections.abc import Sequence
from typing import Any

from dist_llm.benchmarking.flops import FORMULA
from dist_llm.scalability.analysis import DISTURBED, PHASES
from dist_llm.scalability.section import Row, Section


def speed_sections(report: dict[str, Any]) -> list[Section]:
    """Return a section for each series, and one for where their time goes."""
    T = report["config"]["model"]["max_seq_len"]
    measured = [series for series in report["series"] if series["points"]]
    return [*(_speeds(series, T) for series in measured), _times(measured)]


def method_sections(report: dict[str, Any]) -> list[Section]:
    """Return what was measured where, and how."""
    return [_environment(report), _method(report)]


def _speeds(series: dict[str, Any], T: int) -> Section:
    batch = f"{series['sequences']} sequences of {T} tokens per step"
    title = (
        f"strong scaling: {batch}, divided among the ranks"
        if series["mode"] == "strong"
        else f"weak scaling: {batch} and rank"
    )
    head = (
        "ranks x threads", "cores", "tokens/s", "(min..max)", "speed-up", "efficiency", "(min..max)", "serial share",
        "to 1 process", "MFU", "MB/rank", "MB sent", "",
    )  # fmt: skip
    rows: list[Row] = [head]
    for p in series["points"]:
        speed, efficiency = p["tokens_per_s"], p["efficiency"]
        counts = not p["oversubscribed"]
        rows.append(
            (
                p["point"],
                str(p["cores"]),
                f"{speed['median']:,.0f}",
                f"({speed['min']:,.0f}..{speed['max']:,.0f})",
                _median(p["speed_up"], 2),
                _median(efficiency, 1, 100, " %") if counts else "-",
                f"({100 * efficiency['min']:.0f}..{100 * efficiency['max']:.0f})" if counts and efficiency else "-",
                "-" if p["karp_flatt"] is None else f"{100 * p['karp_flatt']:.1f} %",
                _median(p["to_one_process"], 2),
                _median(p["mfu"], 0, 100, " %") if counts else "-",
                f"{max(p['peak_memory_bytes']) / 1e6:,.0f}",
                f"{p['bytes_sent'] / 1e6:,.2f}",
                _remark(p, series),
            )
        )
    return Section(title, rows, (0, len(head) - 1), _words_on_speeds(series))


def _remark(p: dict[str, Any], series: dict[str, Any]) -> str:
    remarks = []
    if p["point"] == series["reference"]:
        remarks.append("reference")
    if p["ranks"] == 1 and p["threads"] > 1:
        remarks.append("one process, BLAS threads")
    if p["oversubscribed"]:
        remarks.append("oversubscribed: does not count")
    if p["repeat"]:
        remarks.append(f"REPEAT: {p['repeat']}")
    return ", ".join(remarks)


def _words_on_speeds(series: dict[str, Any]) -> list[str]:
    words = []
    fit = series["fit"]
    if fit:
        share = fit["serial_share"]
        words.append(
            f"{fit['law']}'s law, fitted to {', '.join(fit['points'])}: a serial share of "
            f"{100 * share['median']:.2f} % ({100 * share['min']:.2f}..{100 * share['max']:.2f} by rounds)"
        )
    losses = series.get("losses")
    if losses:
        values = ", ".join(f"{point} {loss:.6f}" for point, loss in losses["by_point"].items())
        if losses["equal"] is None:
            judgement = "not to be equal: local steps are another algorithm for every number of ranks"
        else:
            judgement = (
                f"{'equal' if losses['equal'] else 'NOT EQUAL'}: {losses['difference']:.1g} apart at most, with "
                f"{losses['tolerance']:g} allowed for rounding"
            )
        words.append(f"loss of step {losses['step']}, {judgement} ({values})")
    if series["left_out"]:
        words.append(
            f"left out: {', '.join(series['left_out'])}, with more ranks than sequences in a batch of "
            f"{series['sequences']} (--train.batch_size)"
        )
    return words


def _times(measured: Sequence[dict[str, Any]]) -> Section:
    rows: list[Row] = [("", "step ms", *(f"{phase} %" for phase in PHASES), "compute ms per sequence")]
    for series in measured:
        for p in series["points"]:
            per_sequence_s = p["seconds"]["compute"] * p["ranks"] / p["batch_size"]
            rows.append(
                (
                    f"{series['mode']} {p['point']}",
                    f"{1e3 * p['step_s']:,.1f}",
                    *(f"{100 * p['shares'][phase]:.2f}" for phase in PHASES),
                    f"{1e3 * per_sequence_s:,.2f}",
                )
            )
    return Section(
        "where the time of a step goes, the mean over ranks",
        rows,
        words=[
            "compute: forward and backward; communication: waiting for data when all ranks had come; imbalance: "
            "waiting until they had; other: clearing gradients, clipping, arithmetic of the reduction, metrics",
            "compute per sequence is one rank's: where it grows with the cores in use, they share something (memory, "
            "caches, power)",
        ],
    )


def _environment(report: dict[str, Any]) -> Section:
    e = report["environment"]
    busy = e["busy_before"]
    bound = sorted({p["binding"] for series in report["series"] for p in series["points"]})
    facts = {
        "machine": f"{e['host']}, {e['cpu']}, {e['platform']}",
        "cores": f"{e['usable_cores']} usable (affinity {', '.join(map(str, e['affinity']))}; quota "
        f"{e['cpu_quota'] or 'none'}) of {e['logical_cpus']} logical CPUs; ranks bound by: {'; '.join(bound) or '-'}",
        "frequency": f"governor {e['frequency_governor'] or 'not readable'}",
        "memory": f"{e['memory_bytes'] / 1e9:.1f} GB",
        "software": f"dist_llm {e['dist_llm']}, Python {e['python']}, NumPy {e['numpy']}, {e['blas']} with the threads "
        f"of each point; MPI: {', '.join(report['mpi']) or 'none'}",
        "load before": f"average {', '.join(f'{load:.2f}' for load in e['load_average'])}; cores busy "
        f"{', '.join(f'{100 * share:.0f} %' for share in busy)}",
        "load during": _load_during(report),
        "peak": ", ".join(f"{peak['one_core']:.0f}" for peak in report["peaks"])
        + " GFLOP/s on one core, "
        + ", ".join(f"{peak['all_cores']:.0f}" for peak in report["peaks"])
        + f" on all {e['local_cores']} of this host (float32 matrix products, before each round)",
    }
    return Section("environment", words=[f"{name}: {text}" for name, text in facts.items()])


def _load_during(report: dict[str, Any]) -> str:
    points = [p for series in report["series"] for p in series["points"]]
    if not points:
        return "nothing was measured"
    other = max(p["disturbance"]["other"] for p in points)
    stolen = max(p["disturbance"]["stolen"] for p in points)
    disturbed = sum(p["disturbed_runs"] for p in points)
    return (
        f"other programs at most {100 * other:.1f} % of the cores' time in a run, other virtual machines "
        f"{100 * stolen:.1f} %; above {100 * DISTURBED:.0f} % together a run is disturbed: {disturbed} of "
        f"{sum(p['runs'] for p in points)}"
    )


def _method(report: dict[str, Any]) -> Section:
    m = report["method"]
    rounds = f"{m['repeats']} round{'s' * (m['repeats'] > 1)}"
    return Section(
        "method",
        words=[
            f"{rounds}; in each, every point once, as a job of its own ({m['launcher']}) that trains the "
            f"model from its start: {m['warm_up_steps']} steps to warm up, then at least {m['steps']} steps and "
            f"{m['seconds']:g} s, measured by the slowest rank. Figures are medians over rounds, with least and most; "
            "speed-ups are taken within a round. Efficiency = speed-up / cores, relative to the reference.",
            f"MFU = tokens/s x FLOPs per token / peak of the cores used, the best of all rounds; FLOPs per token = "
            f"{FORMULA} = {report['flops_per_token'] / 1e6:.2f} million",
            f"reduction: {report['config']['parallel']['reduction']}, wire "
            f"{report['config']['parallel']['wire']}; {report['parameters']:,} parameters",
            f"command: {report['command']}",
        ],
    )


def _median(values: dict[str, Any] | None, digits: int, factor: float = 1, unit: str = "") -> str:
    return "-" if values is None else f"{factor * values['median']:.{digits}f}{unit}"
