"""What the report says, as tables and words: points, where their time goes, communication, machine, method."""

from collections.abc import Sequence

from dist_llm.measuring.flops import FORMULA, MFU
from dist_llm.measuring.spread import Spread
from dist_llm.measuring.tables import Row, Section, between, count
from dist_llm.scalability.analysis import PHASES, PointResult, SeriesResult, StepTimes
from dist_llm.scalability.communication_sections import communication
from dist_llm.scalability.pop import AGREES, Factors, Processor
from dist_llm.scalability.report import Report
from dist_llm.scalability.runs import DISTURBED
from dist_llm.scalability.time_to_loss_section import time_to_loss_section

FACTORS = {  # of an efficiency, and what the table calls them
    "global_efficiency": "global efficiency",
    "parallel_efficiency": "parallel efficiency",
    "load_balance": "load balance",
    "communication_efficiency": "communication efficiency",
    "serialisation": "serialisation",
    "transfer": "transfer",
    "computation_scaling": "computation scaling",
}


def sections(report: Report) -> list[Section]:
    """Return all sections, in their order."""
    T = report.measurements.seq_len
    measured = [series for series in report.series if series.points]
    points = []
    if measured:
        points = [
            _steps(measured), *_factors(measured), *_processors(measured), _times(measured), _resources(measured),
        ]  # fmt: skip
    return [
        *(_speeds(series, T) for series in measured), *_to_loss(report), *points, *communication(report.communication),
        _environment(report), _method(report),
    ]  # fmt: skip


def _to_loss(report: Report) -> list[Section]:
    return [time_to_loss_section(report.to_loss, report.measurements)] if report.to_loss else []


def _speeds(series: SeriesResult, T: int) -> Section:
    batch = f"{series.sequences} sequences of {T} tokens per step"
    strong = series.mode == "strong"
    title = f"strong scaling: {batch}, divided among the ranks" if strong else f"weak scaling: {batch} and rank"
    head = ("ranks x threads", "cores", "tokens/s (95 %)", "speed-up", "efficiency (95 %)", "to 1 process", "")
    rows: list[Row] = [head]
    for p in series.points:
        believed = not (p.doubt or p.oversubscribed)
        efficient = _with_interval(p.efficiency if believed else None, 1, 100)
        relative = (_median(p.speed_up if believed else None, 2), efficient, _median(p.to_one_process, 2))
        rows.append((p.point, str(p.cores), _with_interval(p.tokens_per_s, 0), *relative, _remark(p, series)))
    return Section(title, rows, (0, len(head) - 1), _words_on_speeds(series))


def _median(spread: Spread | None, digits: int, factor: float = 1, unit: str = "") -> str:
    return spread.middle(digits, factor, unit) if spread else "-"


def _with_interval(spread: Spread | None, digits: int, factor: float = 1) -> str:
    return spread.with_interval(digits, factor) if spread else "-"


def _remark(p: PointResult, series: SeriesResult) -> str:
    remarks = {
        "reference": p.point == series.reference,
        "one process, BLAS threads": p.ranks == 1 and p.threads > 1,
        "oversubscribed: does not count": p.oversubscribed,
        f"NO RESULT: {p.doubt}": bool(p.doubt),
    }
    return ", ".join(remark for remark, applies in remarks.items() if applies)


def _words_on_speeds(series: SeriesResult) -> list[str]:
    words = []
    if fit := series.fit:
        name = f"{fit.law}'s law, fitted to {', '.join(fit.points)}"
        share = f"a serial share of {fit.serial_share.middle(2, 100)} % ({fit.serial_share.confidence(2, 100)})"
        checked = "nothing to check it with: that takes a point of twice the cores of another one"
        if fit.held_out:
            checked = f"fitted to half the cores, it is {100 * fit.held_out.error:+.1f} % off at {fit.held_out.point}"
        words.append(f"{name}: no result: {fit.doubt}" if fit.doubt else f"{name}: {share}; {checked}")
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


def _steps(measured: Sequence[SeriesResult]) -> Section:
    rows: list[Row] = [("", "step ms (95 %)", "p50", "p95", "p99", "steps", "warm-up", "slowest rank")]
    for series in measured:
        for p in series.points:
            step, slowest = f"{series.mode} {p.point}", "-"
            if p.slowest_rank and p.slowest_rank.behind.median > 0:
                behind = p.slowest_rank.behind
                slowest = f"{p.slowest_rank.rank} of {p.slowest_rank.host}, +{behind.middle(1, 100)} %"
            times = (_with_interval(p.step_s, 1, 1e3), *_percentiles(p.step_times), f"{p.step_times.steps:,}")
            rows.append((step, *times, between(_extremes(p.step_times.warm_up_steps), 0), slowest))
    words = [
        "p50, p95, p99: of single steps in ms, those of all counted runs together; each waits for its slowest rank. "
        "p95 takes 20 steps, p99 100. warm-up: steps at a run's beginning that are left out, found by MSER (White "
        "1997). slowest rank: which one computes longest, and how much longer than the mean",
    ]
    return Section("steps", rows, (0, 7), words)


def _extremes(values: Sequence[int]) -> tuple[int, int]:
    return min(values), max(values)


def _percentiles(times: StepTimes) -> list[str]:
    return ["-" if s is None else f"{1e3 * s:,.1f}" for s in (times.p50_s, times.p95_s, times.p99_s)]


def _factors(measured: Sequence[SeriesResult]) -> list[Section]:
    rows: list[Row] = [("", *FACTORS.values())]
    found = [(f"{s.mode} {p.point}", p.factors) for s in measured for p in s.points if _has_factors(p, s)]
    rows += [(name, *_cells(of)) for name, of in found if of and of.agrees]
    words = [
        "POP's factors of the efficiency, in % (95 %): global = parallel x computation scaling; parallel = load "
        "balance x communication; communication = serialisation x transfer",
    ]
    words += _words_on_processor([of for _, of in found if of])
    for name, of in found:
        if of and not of.agrees:
            words.append(
                f"{name}: no result: the rounds differ so much that the factors multiply to "
                f"{100 * of.product_error:+.1f} % of the measured efficiency; {100 * AGREES:g} % is allowed"
            )
    return [Section("what the efficiency is made of", rows if len(rows) > 1 else [], words=words)] if found else []


def _processors(measured: Sequence[SeriesResult]) -> list[Section]:
    rows: list[Row] = [("", "instructions", "instructions per cycle", "frequency", "counted")]
    for series in measured:
        for p in series.points:
            if _has_factors(p, series) and p.factors and isinstance(p.factors.processor, Processor):
                of = p.factors.processor
                factors = (of.instructions_scaling, of.ipc_scaling, of.frequency_scaling)
                shares = (_with_interval(factor, 1, 100) for factor in factors)
                rows.append((f"{series.mode} {p.point}", *shares, f"{100 * of.counted_share:.0f} %"))
    words = [
        "computation scaling = instructions for a sequence x instructions per cycle x frequency, each in % of the "
        "reference's (95 %), as the processors count them in user space; what is not counted is extrapolated"
    ]
    return [Section("what computation scaling is made of", rows, words=words)] if len(rows) > 1 else []


def _words_on_processor(found: Sequence[Factors]) -> list[str]:
    reasons = dict.fromkeys(of.processor for of in found if isinstance(of.processor, str))
    return [f"frequency and instructions per cycle, of computation scaling: not known: {why}" for why in reasons]


def _has_factors(p: PointResult, series: SeriesResult) -> bool:
    return p.factors is not None and p.point != series.reference and not (p.doubt or p.oversubscribed)


def _cells(of: Factors) -> list[str]:
    return [_with_interval(getattr(of, name), 1, 100) for name in FACTORS]


def _times(measured: Sequence[SeriesResult]) -> Section:
    rows: list[Row] = [("", *(f"{phase} %" for phase in PHASES), "compute ms per sequence")]
    for series in measured:
        for p in series.points:
            shares = (f"{p.shares[phase].middle(1, 100)}{_plus_minus(p.shares[phase])}" for phase in PHASES)
            per_sequence_ms = 1e3 * p.seconds["compute"] * p.ranks / p.batch_size
            rows.append((f"{series.mode} {p.point}", *shares, f"{per_sequence_ms:,.2f}"))
    words = [
        "compute: forward and backward; communication: waiting for data when all ranks had come; imbalance: "
        "waiting until they had; other: clearing gradients, clipping, arithmetic of the reduction, metrics",
        "compute per sequence is one rank's: where it grows with the cores in use, they share memory, caches or power",
    ]
    return Section("where the time of a step goes, the mean over ranks", rows, words=words)


def _plus_minus(share: Spread) -> str:
    """Return the larger side of the interval of a share, in percent."""
    if share.interval is None:
        return ""
    low, high = share.interval
    return f" ±{100 * max(high - share.median, share.median - low):.1f}"


def _resources(measured: Sequence[SeriesResult]) -> Section:
    points = [(f"{series.mode} {p.point}", p) for series in measured for p in series.points]
    energies = [p.step_energy_j for _, p in points]
    known = any(isinstance(energy, Spread) for energy in energies)
    rows: list[Row] = [
        ("", "MFU % (95 %)", "MB per rank", "MB sent per step", "serial share", *["J per 1,000 tokens"] * known)
    ]
    for name, p in points:
        utilisation = "-" if p.oversubscribed or p.doubt else _with_interval(p.mfu, 0, 100)
        megabytes = (f"{max(p.peak_memory_bytes) / 1e6:,.0f}", f"{p.bytes_sent / 1e6:,.2f}")
        serial = "-" if p.karp_flatt is None or p.doubt else f"{100 * p.karp_flatt:.1f} %"
        energy = p.step_energy_j if isinstance(p.step_energy_j, Spread) and not p.doubt else None
        joules = [_with_interval(energy, 1, 1e3 / p.tokens_per_step)] * known
        rows.append((name, utilisation, *megabytes, serial, *joules))
    words = ["serial share: after Karp and Flatt, of the median speed-up; - where that is no share of 0 to 100 %"]
    words += [f"energy: not known: {why}" for why in dict.fromkeys(e for e in energies if isinstance(e, str))]
    if known:
        words.append("energy: of the processors' packages of all hosts (RAPL), with whatever else runs on them")
    return Section("what it takes", rows, words=words)


def _environment(report: Report) -> Section:
    e = report.environment
    points = [p for series in report.series for p in series.points]
    bound = sorted({p.binding for p in points})
    m = report.measurements
    during = "nothing was measured"
    if points:
        other, stolen = (max(getattr(p.disturbance, kind) for p in points) for kind in ("other", "stolen"))
        during = (
            f"other programs at most {100 * other:.1f} % of the cores' time in a run, other virtual machines "
            f"{100 * stolen:.1f} %; above {100 * DISTURBED:.0f} % together a run is disturbed: "
            f"{sum(p.disturbed_runs for p in points)} of {sum(p.runs for p in points)}"
        )
    one, every = (", ".join(f"{getattr(p, name):.0f}" for p in m.peaks) for name in ("one_core", "all_cores"))
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
    m, measured = report.measurements.method, report.measurements
    parallel, rounds = measured.config.parallel, len(measured.peaks)
    words = [
        f"{count(rounds, 'round')}, at least {m.repeats}, and on until the 95 % intervals of all efficiencies are "
        f"narrower than {100 * m.width:g} %, for at most {m.patience_s / 60:g} min more; a disturbed run does not "
        "count and is measured again. In a round, every point that is not settled once, as a job of its own "
        f"({m.launcher}) that trains the model from its start: at least {m.steps} steps and {m.seconds:g} s behind "
        "the warm-up, measured by the slowest rank",
        "figures are medians over rounds, with 95 % confidence intervals from order statistics, interpolated after "
        "Hettmansperger and Sheather (1986); those that ended the rounds by being narrow hold the truth less often, in "
        "at least 90 % of simulated studies. What is relative is taken within a round. Efficiency = speed-up / cores, "
        "relative to the reference",
        f"MFU = {MFU}; FLOPs per token = {FORMULA} = {report.flops_per_token / 1e6:.2f} million",
        f"strategy: {parallel.strategy}, numbers sent as {parallel.reduce_dtype}; {report.parameters:,} parameters",
        f"command: {report.command}",
    ]
    return Section("method", words=words)
