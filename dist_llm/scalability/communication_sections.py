"""What the report says about communication: the model, its errors, and what a network would make of it."""

from collections.abc import Sequence

from dist_llm.measuring.tables import Row, Section, between, count
from dist_llm.scalability.projection import EFFICIENT, Projection
from dist_llm.scalability.report import Base, Communication


def communication(model: Communication | None) -> list[Section]:
    """Return the sections of the performance model; none without one."""
    if model is None:
        return []
    found = [make(model) for make, rows in ((_calibration, model.calibration), (_validation, model.validation)) if rows]
    base = model.base
    return [*found, *(_projection(projection, model, base) for projection in model.projections if base)]


def _calibration(model: Communication) -> Section:
    rows: list[Row] = [("ranks", "bytes", "measured us (95 %)", "model us", "error")]
    for s in model.calibration:
        us = 1e6 * s.seconds
        figures = (
            f"{us:,.1f} ({s.measured_s.confidence(1, 1e6)})",
            f"{us * (1 + s.error):,.1f}",
            f"{100 * s.error:+.0f} %",
        )
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


def _projection(projection: Projection, model: Communication, base: Base) -> Section:
    traffic, percent, messages = model.traffic, f"{100 * EFFICIENT:.0f} %", [row.messages for row in projection.rows]
    in_one = ("in one message",) * (max(messages) > 1)
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
        words.append(f"messages in a step, by ranks: {', '.join(map(str, messages))}")
    title = f"projection (not measured): hosts like this one, ranks on each: {base.ranks_per_host}, network of "
    title += f"{projection.network}; weak: {sequences}, strong: {base.batch_size} in all"
    return Section(title, rows, (), words)


def _dominated(dominated: Sequence[int | None]) -> str:
    found = [ranks for ranks in dominated if ranks is not None]
    if not found:
        return "nowhere"
    text = f"from {between(sorted(found), 0)} ranks on"
    return text if len(found) == len(dominated) else f"{text} if nothing is hidden, else nowhere"
