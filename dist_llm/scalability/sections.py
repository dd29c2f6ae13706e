"""The report as sections of tables and words, the same for the terminal and for the page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dist_llm.benchmarking.flops import FORMULA
from dist_llm.benchmarking.table import aligned
from dist_llm.scalability.analysis import DISTURBED, PHASES
from dist_llm.scalability.projection import EFFICIENT
from dist_llm.scalability.traffic import OPERATIONS

Row = Sequence[str]


@dataclass
class Section:
    """A table with its title, and words below it.

    Attributes
    ----------
    title : str
    rows : list of sequences of str
        The head first.
    left : tuple of int
        Columns that are words.
    words : list of str
    """

    title: str
    rows: list[Row] = field(default_factory=list)
    left: tuple[int, ...] = (0,)
    words: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return it for a terminal."""
        table = aligned(self.rows, self.left) if self.rows else []
        return "\n".join([self.title, *(f"  {line}" for line in (*table, *self.words))])


def sections(report: dict[str, Any]) -> list[Section]:
    """Return all sections of a report."""
    measured = [series for series in report["series"] if series["points"]]
    model = report["communication"]
    return [
        *(_speeds(series, report) for series in measured),
        *([_times(measured)] if measured else []),
        *([_calibration(model), _validation(model)] if model and model["calibration"] else []),
        *(_projection(p, model) for p in (model or {}).get("projections", [])),
        _environment(report),
        _method(report),
    ]


def _speeds(series: dict[str, Any], report: dict[str, Any]) -> Section:
    T = report["config"]["model"]["max_seq_len"]
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
                    *(f"{100 * p['shares'][phase]:.1f}" for phase in PHASES),
                    f"{1e3 * per_sequence_s:,.2f}",
                )
            )
    return Section(
        "where the time of a step goes, the mean over ranks",
        rows,
        words=[
            "communication: waiting for data when all ranks had come; imbalance: waiting until they had; compute: "
            "forward and backward",
            "other: clearing gradients, clipping, arithmetic of the reduction, metrics. Compute per sequence, of one "
            "rank: where it",
            "grows with the cores in use, they share something (memory, caches, power)",
        ],
    )


def _calibration(model: dict[str, Any]) -> Section:
    rows: list[Row] = [("ranks", "bytes", "measured us", "model us", "error")]
    rows += [
        (
            str(s["ranks"]),
            f"{s['n_bytes']:,}",
            f"{1e6 * s['seconds']:,.1f}",
            f"{1e6 * s['seconds'] * (1 + s['error']):,.1f}",
            f"{100 * s['error']:+.0f} %",
        )
        for s in model["calibration"]
    ]
    errors = [abs(s["error"]) for s in model["calibration"]]
    cost, traffic = model["cost_model"], model["traffic"]
    speed = f"{1e-9 / cost['s_per_byte']:.1f} GB/s" if cost["s_per_byte"] else "no limit found"
    every = f" every {traffic['every_steps']} steps" if traffic["every_steps"] > 1 else ""
    return Section(
        f"communication: {OPERATIONS[traffic['operation']]}; {traffic['messages']} of {traffic['message_bytes']:,} "
        f"bytes{every or ' in a step'}",
        rows,
        (),
        [
            f"model: {cost['algorithm']} ({model['algorithm_is']}), latency {1e6 * cost['latency_s']:.2f} us, {speed}, "
            f"additions {1e-9 / cost['add_s_per_byte']:.1f} GB/s; Thakur, Rabenseifner and Gropp 2005",
            f"error of the fit: {100 * sum(errors) / len(errors):.0f} % on average, {100 * max(errors):.0f} % at most",
        ],
    )


def _validation(model: dict[str, Any]) -> Section:
    rows: list[Row] = [("", "comm. ms", "model", "error", "step ms", "model", "error")]
    rows += [
        (
            f"{v['mode']} {v['point']}",
            *(f"{1e3 * v[f'communication_{key}_s']:.2f}" for key in ("measured", "predicted")),
            f"{100 * v['communication_error']:+.0f} %",
            *(f"{1e3 * v[f'step_{key}_s']:,.1f}" for key in ("measured", "predicted")),
            f"{100 * v['step_error']:+.1f} %",
        )
        for v in model["validation"]
    ]
    return Section(
        "the model against the measured points",
        rows,
        words=[
            "step: the reference's compute per sequence and fixed work, and the model's communication; what ranks wait "
            "for each other",
            "(imbalance) and what they take from each other (memory, power) is not in it",
        ],
    )


def _projection(projection: dict[str, Any], model: dict[str, Any]) -> Section:
    base, traffic = model["base"], model["traffic"]
    weak = base["weak_sequences"]
    percent = f"{100 * EFFICIENT:.0f} %"
    in_one = ("in one message",) * (traffic["messages"] > 1)
    rows: list[Row] = [
        (
            "ranks", "exposed ms", *in_one, "efficiency, weak", "efficiency, strong",
            f"sequences per rank for {percent}", f"or local steps for {percent}",
        )
    ]  # fmt: skip
    for row in projection["rows"]:
        strong = row["strong_efficiency"]
        rows.append(
            (
                f"{row['ranks']:,}",
                _between([1e3 * s for s in row["exposed_s"]], 1),
                *(f"{1e3 * row['one_message_s']:,.1f}" for _ in in_one),
                _between([100 * e for e in row["weak_efficiency"]], 1, " %"),
                "fewer sequences than ranks" if strong is None else _between([100 * e for e in strong], 1, " %"),
                f"{row['sequences_per_rank']:,}",
                f"{row['local_steps']:,}",
            )
        )
    up_to, dominated = projection["efficient_up_to"], projection["dominated_from"]
    sequences = f"{weak} sequence{'s' * (weak != 1)} per rank"
    words = [
        f"with {sequences}, {percent} efficient up to {_between(up_to, 0)} ranks (of 2 ... 1,024); waiting is more "
        f"than half of a step {_dominated(dominated)}",
    ]
    if traffic["overlaps"]:
        words.append(
            "two figures: nothing of the communication hidden .. all of it that the last backward pass can hide"
        )
    if in_one:
        words.append("in one message: with --parallel.bucket_bytes as large as the model, and nothing hidden")
    return Section(
        f"projection (not measured): hosts like this one, {base['ranks_per_host']} ranks on each, network of "
        f"{projection['network']}; weak: {sequences}, strong: {base['batch_size']} in all",
        rows,
        (),
        words,
    )


def _dominated(dominated: Sequence[int | None]) -> str:
    found = [ranks for ranks in dominated if ranks is not None]
    if not found:
        return "nowhere"
    text = f"from {_between(sorted(found), 0)} ranks on"
    return text if len(found) == len(dominated) else f"{text} if nothing is hidden, else nowhere"


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
        + f" on all {report['local_cores']} of this host (float32 matrix products, before each round)",
    }
    return Section("environment", words=[f"{name + ':':13}{text}" for name, text in facts.items()])


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
    return Section(
        "method",
        words=[
            f"{m['repeats']} rounds; in each, every point once, as a job of its own ({m['launcher']}) that trains the "
            "model from its start:",
            f"{m['warm_up_steps']} steps to warm up, then at least {m['steps']} steps and {m['seconds']:g} s, measured "
            "by the slowest rank. Figures are medians over rounds, with least",
            "and most; speed-ups are taken within a round. Efficiency = speed-up / cores, relative to the reference.",
            f"MFU = tokens/s x FLOPs per token / peak of the cores used; FLOPs per token = {FORMULA} = "
            f"{report['flops_per_token'] / 1e6:.2f} million",
            f"reduction: {report['config']['parallel']['reduction']}, wire "
            f"{report['config']['parallel']['wire']}; {report['parameters']:,} parameters",
            f"command: {report['command']}",
        ],
    )


def _median(values: dict[str, Any] | None, digits: int, factor: float = 1, unit: str = "") -> str:
    return "-" if values is None else f"{factor * values['median']:.{digits}f}{unit}"


def _between(values: Sequence[float], digits: int, unit: str = "") -> str:
    """Two figures as one where they look the same."""
    first, last = (
        (f"{value:,.{digits}f}" for value in values) if len(values) == 2 else (f"{values[0]:,.{digits}f}",) * 2
    )
    return f"{first}{unit}" if first == last else f"{first}..{last}{unit}"
