"""From the rounds' answers to medians, ratios and tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from dist_llm.benchmarking.contestants import LONG_CONTEXT, TASKS, Contestant
from dist_llm.benchmarking.turn import Answer
from dist_llm.config import ModelConfig
from dist_llm.measuring.flops import FORMULA, MFU, mfu
from dist_llm.measuring.machine import Machine
from dist_llm.measuring.peak import Peak
from dist_llm.measuring.phases import OUTSIDE
from dist_llm.measuring.spread import Spread
from dist_llm.measuring.tables import Row, Section, wrap

# Below this share of (cores x one core's peak), other programs are probably using some of the cores.
BUSY = 0.75
PEAKS = ("one_core", "all_cores")
# Which of our training steps are set beside which of others: the precision of the products of each.
COMPARED = (("float32", "float32"), ("bfloat16", "bfloat16"), ("bfloat16", "float32"))
FASTER = "bfloat16 products run at up to twice the float32 peak, so MFU, which counts by float32, may exceed 100 %"

Round = Mapping[str, Sequence[Answer]]  # of each contestant by name, the answers of its processes


@dataclass(frozen=True)
class Communication:
    """What a step's communication costs a rank: seconds in which it waits and does nothing else, and bytes sent."""

    exposed_s: float
    bytes_sent: float


@dataclass(frozen=True)
class Result:
    """What a contestant reached. Ratios are taken within a round: what slows the machine down then slows down both."""

    name: str
    task: str
    package: str
    precision: str  # float32 or bfloat16: of matrix products
    processes: int
    threads: int
    setup: str  # how it works
    unit: str
    speed: Spread  # by the time of the slowest process
    reference: str | None  # this project's way to do the same on as many cores
    ratio: Spread | None  # of the speeds of the two
    mfu: Spread | None  # where model FLOPs are counted, and the peak was measured
    communication: Communication | None
    phases: dict[str, float] | None  # shares of a step: the median over rounds of the mean over processes
    peak_memory_bytes: list[int]  # of each process


@dataclass(frozen=True)
class Comparison:
    """Our fastest training step, with products of a precision, beside the fastest of another package."""

    cores: int  # that both use
    ours: str
    precision: str
    theirs: str
    their_precision: str
    ratio: Spread  # of the speeds of the two


@dataclass(frozen=True)
class Report:
    """What becomes benchmark.json."""

    machine: Machine
    model: ModelConfig
    parameters: int
    flops_per_token: dict[str, int]  # by task, of those in which they are counted
    batch_size: int
    repeats: int
    steps: int
    sgemm_gflops: dict[str, Spread] | None  # the peak of "one_core" and of "all_cores", if it was measured
    contestants: list[Result]
    comparisons: list[Comparison]
    left_out: dict[str, str]  # who took no part, and why
    flops_formula: str = FORMULA


def summarize(
    members: Sequence[tuple[Contestant, str]], rounds: Sequence[Round], cores: int, flops_per_token: Mapping[str, int]
) -> tuple[list[Result], dict[str, Spread] | None]:
    """Return the results of all contestants, and the peak if it was measured.

    Contestants come with what they said about how they work; FLOPs by task, where model FLOPs are counted.
    """
    peaks = [answer.peak for each in rounds for answer in each.get("sgemm", ()) if answer.peak]
    runners = {c: setup for c, setup in members if c.task != "peak"}
    speeds = {c.name: [_speed(c, each[c.name]) for each in rounds] for c in runners}
    results = []
    for c, setup in runners.items():
        answers, own = [each[c.name] for each in rounds], speeds[c.name]
        flops, reference = flops_per_token.get(c.task), _reference(c, list(runners), cores)
        memory = zip(*([answer.peak_memory_bytes for answer in each] for each in answers), strict=True)
        results.append(
            Result(
                c.name, c.task, c.package, c.precision.removesuffix("-compiled"), c.processes, c.threads, setup,
                TASKS[c.task].unit, Spread.of(own), reference, _ratio(own, speeds[reference]) if reference else None,
                mfu(own, flops, Peak.best(peaks), _cores_used(c, cores)) if flops and peaks else None,
                _communication(answers), _phases(answers), [max(of_process) for of_process in memory],
            )
        )  # fmt: skip
    return results, {name: Spread.of(getattr(peak, name) for peak in peaks) for name in PEAKS} if peaks else None


def compare(results: Sequence[Result], cores: int) -> list[Comparison]:
    """Return how many times as fast as the others' fastest training steps ours are."""
    steps = [r for r in results if r.task == "step"]
    found = []
    for used in sorted({_cores_used(r, cores) for r in steps}):
        fastest: dict[tuple[str, str], Result] = {}
        for r in sorted((r for r in steps if _cores_used(r, cores) == used), key=lambda r: r.speed.median):
            fastest[r.package, r.precision] = r
        for package in sorted({r.package for r in steps} - {"dist_llm"}, reverse=True):
            for precision, theirs in COMPARED:
                a, b = fastest.get(("dist_llm", precision)), fastest.get((package, theirs))
                if a and b:
                    ratio = _ratio(a.speed.rounds, b.speed.rounds)
                    found.append(Comparison(used, a.name, precision, b.name, theirs, ratio))
    return found


def _ratio(speeds: Sequence[float], others: Sequence[float]) -> Spread:
    return Spread.of(a / b for a, b in zip(speeds, others, strict=True))


def _cores_used(contestant: Contestant | Result, cores: int) -> int:
    return min(cores, contestant.processes * contestant.threads)


def _speed(contestant: Contestant, answers: Sequence[Answer]) -> float:
    return sum(a.amount for a in answers) / TASKS[contestant.task].scale / max(a.seconds for a in answers)


def _reference(contestant: Contestant, everyone: Sequence[Contestant], cores: int) -> str | None:
    """Return this project's way to do the same task on as many cores, of several the one with most processes."""
    ours = [c for c in everyone if c.package == "dist_llm" and c.task == contestant.task]
    if contestant.task != "generation":  # a single text: more cores are an attempt to be faster at the same
        ours = [c for c in ours if _cores_used(c, cores) == _cores_used(contestant, cores)]
    return max(ours, key=lambda c: c.processes).name if ours else None


def _phases(rounds: Sequence[Sequence[Answer]]) -> dict[str, float] | None:
    shares = [[{p: s / a.seconds for p, s in a.phases.items()} for a in answers if a.phases] for answers in rounds]
    names = shares[0][0] if shares[0] else ()
    return {p: median(fmean(one[p] for one in each) for each in shares) for p in names} or None


def _communication(rounds: Sequence[Sequence[Answer]]) -> Communication | None:
    counted = [a for answers in rounds for a in answers if a.exposed_s is not None]
    steps = sum(answer.steps for answer in counted)
    sums = [sum(getattr(a, name) for a in counted) for name in ("exposed_s", "bytes_sent")]
    return Communication(*(total / steps for total in sums)) if counted else None


def text(report: Report, columns: int | None = None) -> str:
    """Return the report as tables and the words that they need, for a terminal of so many columns or this one."""
    tables = (f"{section.text(columns)}\n" for section in _sections(report))
    return "\n".join([*tables, *(wrap(words, columns) for words in _words(report))])


def _sections(report: Report) -> Iterator[Section]:
    for key, task in TASKS.items():
        if chosen := [c for c in report.contestants if c.task == key]:
            head = ("", "processes", "threads", "median", "(min..max)", "ratio", "(to)", "MFU", "peak memory")
            yield Section(f"{task.title}, {task.unit}", [head, *map(_row, chosen)], left=(0, 6))
    rows: list[Row]
    if report.comparisons:
        rows = [("", "cores", "ours", "theirs", "ratio", "(min..max)")]
        for r in report.comparisons:
            names = (f"{r.precision} / {r.their_precision}", str(r.cores), r.ours, r.theirs)
            rows.append((*names, *r.ratio.cells(2)))
        yield Section("training step, our fastest / the fastest of others", rows, left=(0, 2, 3))
    if clocked := [(c.name, c.phases) for c in report.contestants if c.phases]:
        rows = [("", *clocked[0][1], "outside the model")]
        for name, phases in clocked:
            outside = sum(phases[phase] for phase in OUTSIDE)
            rows.append((name, *(f"{100 * share:.1f}" for share in (*phases.values(), outside))))
        words = f"outside the model: {', '.join(OUTSIDE)} (zeroing, metrics); clipping counts as reduction"
        yield Section("where the time goes, % of a training step", rows, words=[words])
    if counted := [(c.name, c.communication) for c in report.contestants if c.communication]:
        rows = [(name, f"{1e3 * c.exposed_s:.2f}", f"{c.bytes_sent / 1e6:.3f}") for name, c in counted]
        title = "communication in a step: what a rank waits for, and sends"
        yield Section(title, [("", "exposed ms", "MB sent"), *rows])


def _row(r: Result) -> Row:
    digits = 0 if r.speed.median >= 100 else 2
    compared = (r.ratio.middle(2), r.reference) if r.ratio and r.reference and r.reference != r.name else ("-", "-")
    use = r.mfu.middle(0, 100, " %") if r.mfu else "-"
    counts, memory = (str(r.processes), str(r.threads)), f"{sum(r.peak_memory_bytes) / 1e6:,.0f} MB"
    return r.name, *counts, *r.speed.cells(digits), *compared, use, memory


def _words(report: Report) -> Iterator[str]:
    cores, flops = report.machine.local_cores, report.flops_per_token
    if report.sgemm_gflops:
        one, every = (report.sgemm_gflops[name] for name in PEAKS)
        figures = [f"{peak.middle(0)} ({peak.range(0)})" for peak in (one, every)]
        yield f"sgemm peak, GFLOP/s: {figures[0]} on one core, {figures[1]} on all {cores}"
        yield f"MFU = {MFU}"
        if any(c.mfu and c.precision == "bfloat16" for c in report.contestants):
            yield f"({FASTER})"
        share = every.median / (cores * one.median)
        if share < BUSY:
            yield f"(together the cores reach {100 * share:.0f} % of what each does alone: others are at work here)"
    short, long = (f"{flops[task] / 1e6:,.2f}" for task in ("step", "long"))
    yield f"FLOPs per token = {FORMULA} = {short} million ({long} with {LONG_CONTEXT:,} tokens)"
    yield from (f"{c.name}: {c.setup}" for c in report.contestants)
    reasons: dict[str, list[str]] = {}
    for name, reason in report.left_out.items():
        reasons.setdefault(reason, []).append(name)
    yield from (f"left out: {', '.join(names)}: {reason}" for reason, names in reasons.items())
