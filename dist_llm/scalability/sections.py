"""What the report says, as tables and words: points, where their time goes, communication, machine, method."""

from collections.abc import Sequence

from dist_llm.measuring.flops import FORMULA, MFU
from dist_llm.measuring.spread import Spread
from dist_llm.measuring.tables import Row, Section, between, count
from dist_llm.scalability.analysis import DISTURBED, PHASES, PointResult, SeriesResult
from dist_llm.scalability.projection import EFFICIENT, Projection
from dist_llm.scalability.report import Communication, Report


def sections(report: Report) -> list[Section]:
    """Return all sections, in their order."""
    T = report.config.model.max_seq_len
    measured = [series for series in report.series if series.points]
    speeds = [_speeds(series, T) for series in measured]
    return [*speeds, _times(measured), *communication(report.communication), _environment(report), _method(report)]


def _speeds(series: SeriesResult, T: int) -> Section:
    batch = f"{series.sequences} sequences of {T} tokens per step"
    strong = series.mode == "strong"
    title = f"strong scaling: {batch}, divided among the ranks" if strong else f"weak scaling: {batch} and rank"
    head = (
        "ranks x threads", "cores", "tokens/s", "(min..max)", "speed-up", "efficiency", "(min..max)", "serial share",
        "to 1 process", "MFU", "MB/rank", "MB sent", "",
    )  # fmt: skip
    rows: list[Row] = [head]
    for p in series.points:
        efficiency, mfu = (None, None) if p.oversubscribed else (p.efficiency, p.mfu)
        efficient = (_median(efficiency, 1, 100, " %"), f"({efficiency.range(0, 100)})" if efficiency else "-")
        serial = "-" if p.karp_flatt is None else f"{100 * p.karp_flatt:.1f} %"
        megabytes = (f"{max(p.peak_memory_bytes) / 1e6:,.0f}", f"{p.bytes_sent / 1e6:,.2f}")
        others = (_median(p.to_one_process, 2), _median(mfu, 0, 100, " %"))
        speed = (p.point, str(p.cores), *p.tokens_per_s.cells(0), _median(p.speed_up, 2))
        rows.append((*speed, *efficient, serial, *others, *megabytes, _remark(p, series)))
    return Section(title, rows, (0, len(head) - 1), _words_on_speeds(series))


def _median(spread: Spread | None, digits: int, factor: float = 1, unit: str = "") -> str:
    return spread.middle(digits, factor, unit) if spread else "-"


def _remark(p: PointResult, series: SeriesResult) -> str:
    remarks = {
        "reference": p.point == series.reference,
        "one process, BLAS threads": p.ranks == 1 and p.threads > 1,
        "oversubscribed: does not count": p.oversubscribed,
        f"REPEAT: {p.repeat}": bool(p.repeat),
    }
    return ", ".join(remark for remark, applies in remarks.items() if applies)


def _words_on_speeds(series: SeriesResult) -> list[str]:
    words = []
    if fit := series.fit:
        share = f"{fit.serial_share.middle(2, 100)} % ({fit.serial_share.range(2, 100)} by rounds)"
        words.append(f"{fit.law}'s law, fitted to {', '.join(fit.points)}: a serial share of {share}")
    if losses := series.losses:
        values = ", ".join(f"{point} {loss:.6f}" for point, loss in losses.by_point.items())
        judgement = "not to be equal: local steps are another algorithm for every number of ranks"
        if losses.equal is not None:
            judgement = f"{'equal' if losses.equal else 'NOT EQUAL'}: {losses.difference:.1g} apart at most, with "
            judgement += f"{losses.tolerance:g} allowed for rounding"
        words.append(f"loss of step {losses.step}, {judgement} ({values})")
    if series.left_out:
        reason = f"with more ranks than sequences in a batch of {series.sequences} (--train.batch_size)"
        words.append(f"left out: {', '.join(series.left_out)}, {reason}")
    return words


def _times(measured: Sequence[SeriesResult]) -> Section:
    rows: list[Row] = [("", "step ms", *(f"{phase} %" for phase in PHASES), "compute ms per sequence")]
    for series in measured:
        for p in series.points:
            shares = (f"{100 * p.shares[phase]:.2f}" for phase in PHASES)
            per_sequence_ms = 1e3 * p.seconds["compute"] * p.ranks / p.batch_size
            rows.append((f"{series.mode} {p.point}", f"{1e3 * p.step_s:,.1f}", *shares, f"{per_sequence_ms:,.2f}"))
    words = [
        "compute: forward and backward; communication: waiting for data when all ranks had come; imbalance: "
        "waiting until they had; other: clearing gradients, clipping, arithmetic of the reduction, metrics",
        "compute per sequence is one rank's: where it grows with the cores in use, they share memory, caches or power",
    ]
    return Section("where the time of a step goes, the mean over ranks", rows, words=words)


def communication(model: Communication | None) -> list[Section]:
    """Return the sections of the performance model; none without one."""
    if model is None:
        return []
    found = [make(model) for make, rows in ((_calibration, model.calibration), (_validation, model.validation)) if rows]
    return [*found, *(_projection(projection, model) for projection in model.projections)]


def _calibration(model: Communication) -> Section:
    rows: list[Row] = [("ranks", "bytes", "measured us", "model us", "error")]
    for s in model.calibration:
        us = 1e6 * s.seconds
        figures = (f"{us:,.1f}", f"{us * (1 + s.error):,.1f}", f"{100 * s.error:+.0f} %")
        rows.append((str(s.ranks), f"{s.n_bytes:,}", *figures))
    errors = [abs(s.error) for s in model.calibration]
    cost, traffic = model.cost_model, model.traffic
    speed = f"{1e-9 / cost.s_per_byte:.3g} GB/s" if cost.s_per_byte else "no limit found"
    often = f"every {traffic.every_steps} steps" if traffic.every_steps > 1 else "in a step"
    sent = f"{traffic.messages} of {traffic.message_bytes:,} bytes {often}"
    words = [
        f"model: {cost.algorithm} ({model.algorithm_is}), latency {1e6 * cost.latency_s:.2f} us, {speed}, "
        f"additions {1e-9 / cost.add_s_per_byte:.3g} GB/s; Thakur, Rabenseifner and Gropp 2005",
        f"error of the fit: {100 * sum(errors) / len(errors):.0f} % on average, {100 * max(errors):.0f} % at most",
    ]
    return Section(f"communication: {traffic.operation}; {sent}", rows, (), words)


def _validation(model: Communication) -> Section:
    rows: list[Row] = [("", "waiting ms", "model", "error", "step ms", "model", "error")]
    for v in model.validation:
        cells: list[str] = []
        for what in (v.communication, v.step):
            predicted = between([1e3 * s for s in what.predicted_s], 2)
            cells += [f"{1e3 * what.measured_s:,.2f}", predicted, f"{100 * what.error:+.1f} %"]
        rows.append((f"{v.mode} {v.point}", *cells))
    words = [
        "waiting: for communication, from all that overlap can hide to nothing hidden; error: of the nearer end",
        "step: the reference's compute per sequence and fixed work, and the model's communication; what ranks wait "
        "for each other (imbalance) and what they take from each other (memory, power) is not in it",
    ]
    return Section("the model against the measured points", rows, words=words)


def _projection(projection: Projection, model: Communication) -> Section:
    base, traffic, percent = model.base, model.traffic, f"{100 * EFFICIENT:.0f} %"
    in_one = ("in one message",) * (traffic.messages > 1)
    rows: list[Row] = [
        (
            "ranks", "exposed ms", *in_one, "efficiency, weak", "efficiency, strong",
            f"sequences per rank for {percent}", f"or local steps for {percent}",
        )
    ]  # fmt: skip
    for row in projection.rows:
        exposed, one = between([1e3 * s for s in row.exposed_s], 1), (f"{1e3 * row.one_message_s:,.1f}",) * len(in_one)
        weak, strong = (
            between([100 * e for e in efficiency], 1, " %") if efficiency else "fewer sequences than ranks"
            for efficiency in (row.weak_efficiency, row.strong_efficiency)
        )
        rows.append(
            (f"{row.ranks:,}", exposed, *one, weak, strong, f"{row.sequences_per_rank:,}", f"{row.local_steps:,}")
        )
    sequences = f"{count(base.weak_sequences, 'sequence')} per rank"
    words = [
        f"with {sequences}, {percent} efficient up to {between(projection.efficient_up_to, 0)} ranks (of 2 ... 1,024); "
        f"waiting is more than half of a step {_dominated(projection.dominated_from)}",
    ]
    if in_one:
        if traffic.overlaps:  # a single message begins when nothing is left to hide it behind
            words.append("two figures: nothing of the communication hidden .. all that the last backward pass can hide")
        words.append("in one message: with --parallel.bucket_bytes as large as the model, and nothing hidden")
    title = f"projection (not measured): hosts like this one, ranks on each: {base.ranks_per_host}, network of "
    title += f"{projection.network}; weak: {sequences}, strong: {base.batch_size} in all"
    return Section(title, rows, (), words)


def _dominated(dominated: Sequence[int | None]) -> str:
    found = [ranks for ranks in dominated if ranks is not None]
    if not found:
        return "nowhere"
    text = f"from {between(sorted(found), 0)} ranks on"
    return text if len(found) == len(dominated) else f"{text} if nothing is hidden, else nowhere"


def _environment(report: Report) -> Section:
    e = report.environment
    points = [p for series in report.series for p in series.points]
    bound = sorted({p.binding for p in points})
    during = "nothing was measured"
    if points:
        other, stolen = (max(getattr(p.disturbance, kind) for p in points) for kind in ("other", "stolen"))
        during = (
            f"other programs at most {100 * other:.1f} % of the cores' time in a run, other virtual machines "
            f"{100 * stolen:.1f} %; above {100 * DISTURBED:.0f} % together a run is disturbed: "
            f"{sum(p.disturbed_runs for p in points)} of {sum(p.runs for p in points)}"
        )
    one, every = (", ".join(f"{getattr(p, name):.0f}" for p in report.peaks) for name in ("one_core", "all_cores"))
    load, busy = ", ".join(f"{n:.2f}" for n in e.load_average), ", ".join(f"{100 * n:.0f} %" for n in e.busy_before)
    words = [
        f"machine: {e.host}, {e.cpu}, {e.platform}; {e.memory_bytes / 1e9:.1f} GB of memory",
        f"cores: {e.usable_cores} usable (affinity {', '.join(map(str, e.affinity))}; quota {e.cpu_quota or 'none'}) "
        f"of {e.logical_cpus} logical CPUs; ranks bound by: {'; '.join(bound) or '-'}; frequency governor: "
        f"{e.frequency_governor or 'not readable'}",
        f"software: dist_llm {e.dist_llm}, Python {e.python}, NumPy {e.numpy}, {e.blas} with the threads of each "
        f"point; MPI: {', '.join(report.mpi) or 'none'}",
        f"load before: average {load}; cores busy {busy}; during: {during}",
        f"peak: {one} GFLOP/s on one core, {every} on all {e.local_cores} of this host (float32, before each round)",
    ]
    return Section("environment", words=words)


def _method(report: Report) -> Section:
    m, parallel = report.method, report.config.parallel
    words = [
        f"{count(m.repeats, 'round')}; in each, every point once, as a job of its own ({m.launcher}) that trains the "
        f"model from its start: {m.warm_up_steps} steps to warm up, then at least {m.steps} steps and "
        f"{m.seconds:g} s, measured by the slowest rank. Figures are medians over rounds, with least and most; "
        "speed-ups are taken within a round. Efficiency = speed-up / cores, relative to the reference.",
        f"MFU = {MFU}; FLOPs per token = {FORMULA} = {report.flops_per_token / 1e6:.2f} million",
        f"strategy: {parallel.strategy}, numbers sent as {parallel.reduce_dtype}; {report.parameters:,} parameters",
        f"command: {report.command}",
    ]
    return Section("method", words=words)
