"""What the report says about communication: the model, its errors, and what a network would make of it."""

from collections.abc import Sequence

from dist_llm.measuring.tables import Row, Section, between, count
from dist_llm.scalability.model_check import CLOSE, HeldOutRanks, Prediction, joined
from dist_llm.scalability.projection import EFFICIENT, KEPT_EFFICIENCY, Projection
from dist_llm.scalability.report import Base, Communication


def communication(model: Communication | None) -> list[Section]:
    """Return the sections of the performance model; none without one."""
    if model is None:
        return []
    found = [make(model) for make, rows in ((_calibration, model.calibration), (_validation, model.validation)) if rows]
    if model.why_not:
        return [*found, Section("no projection", words=[model.why_not])]
    base = model.base
    return [*found, *(_projection(projection, model, base) for projection in model.projections if base)]


def _calibration(model: Communication) -> Section:
    rows: list[Row] = [("ranks", "bytes", "measured us (95 %)", "model us", "error")]
    for s in model.calibration:
        model_us = 1e6 * s.seconds * (1 + s.error)
        figures = (s.measured_s.with_interval(1, 1e6), f"{model_us:,.1f}", f"{100 * s.error:+.0f} %")
        rows.append((str(s.ranks), f"{s.n_bytes:,}", *figures))
    errors = [abs(s.error) for s in model.calibration]
    cost, traffic = model.cost_model, model.traffic
    speed = f"{1e-9 / cost.s_per_byte:.3g} GB/s" if cost.s_per_byte else "no limit found"
    often = f"every {traffic.every_steps} steps" if traffic.every_steps > 1 else "in a step"
    sent = f"{traffic.messages} of {traffic.message_bytes:,} bytes {often}"
    if model.gathered_bytes:
        sent += f"; then an all-gather of {model.gathered_bytes:,}: the updates that ranks compute for each other"
    words = [
        f"model: {cost.algorithm} ({model.algorithm_is}), latency {1e6 * cost.latency_s:.2f} us, {speed}, "
        f"additions {1e-9 / cost.add_s_per_byte:.3g} GB/s; Thakur, Rabenseifner and Gropp 2005",
        f"error of the fit: {100 * sum(errors) / len(errors):.0f} % on average, {100 * max(errors):.0f} % at most",
        *_overlap(model),
    ]
    return Section(f"communication: {traffic.operation}; {sent}", rows, (), words)


def _overlap(model: Communication) -> list[str]:
    return [
        f"beside a backward pass on {overlap.ranks} ranks, reductions go on at {100 * overlap.progress:.0f} % of their "
        f"speed, and each MB sent costs it {1e9 * overlap.lost_s_per_byte:.2f} ms"
        for overlap in model.overlaps
    ]


def _validation(model: Communication) -> Section:
    rows: list[Row] = [("", "fitted to", "waiting ms", "model", "error", "step ms", "model", "error")]
    held_out = model.held_out
    tables = [
        ("all", model.validation),
        *([(f"{joined(held_out.fitted_to)} ranks", held_out.steps)] if held_out else []),
    ]
    for fitted_to, found in tables:
        for v in found:
            cells = [cell for what in (v.communication, v.step) for cell in _cells(what)]
            rows.append((f"{v.mode} {v.point}", fitted_to, *cells))
    words = [
        "waiting: for messages, once all ranks have come; two figures: from all hidden that can be to nothing hidden, "
        "and the error is that of the nearer; step: the model's waiting, and all else as it was measured: the rank's "
        "work, and what it waits for other ranks (imbalance)",
    ]
    return Section("the model against the measured points", rows, (0, 1), words)


def _cells(what: Prediction) -> tuple[str, str, str]:
    predicted = between([1e3 * s for s in what.predicted_s], 2)
    return f"{1e3 * what.measured_s:,.2f}", predicted, f"{100 * what.error:+.1f} %"


def _projection(projection: Projection, model: Communication, base: Base) -> Section:
    kept, messages = f"{100 * KEPT_EFFICIENCY:.0f} %", [row.messages for row in projection.rows]
    in_one = ("in one message",) * (max(messages) > 1)
    rows: list[Row] = [
        (
            "ranks", "exposed ms", *in_one, "efficiency, weak", "efficiency, strong", f"batch for {kept}",
            f"or local steps for {kept}",
        )
    ]  # fmt: skip
    for row in projection.rows:
        exposed, one = between([1e3 * s for s in row.exposed_s], 1), (f"{1e3 * row.one_message_s:,.1f}",) * len(in_one)
        weak, strong = (
            between([100 * e for e in efficiency], 1, " %") if efficiency else "fewer sequences than ranks"
            for efficiency in (row.weak_efficiency, row.strong_efficiency)
        )
        rows.append((f"{row.ranks:,}", exposed, *one, weak, strong, f"{row.batch_size:,}", f"{row.local_steps:,}"))
    sequences = f"{count(base.weak_sequences, 'sequence')} per rank"
    words = [
        f"with {sequences}, {100 * EFFICIENT:.0f} % efficient up to {between(projection.efficient_up_to, 0)} ranks (of "
        f"2 ... 1,024); waiting is more than half of a step {_dominated(projection.dominated_from)}",
        f"held out: {_held_out(model.held_out)}",
    ]
    if model.traffic.overlaps:
        words.append(_exposed(model))
    words.append(
        f"batch for {kept}: the least, of all ranks together, with which each is {kept} as fast as one rank alone; the "
        "isoefficiency (Grama, Gupta and Kumar 1993)"
    )
    if in_one:
        words.append("in one message: with --parallel.bucket_bytes as large as the model, and nothing hidden")
        words.append(f"messages in a step, by ranks: {', '.join(map(str, messages))}")
    title = f"projection (not measured): hosts like this one, ranks on each: {base.ranks_per_host}, network of "
    title += f"{projection.network}; weak: {sequences}, strong: {base.batch_size} in all"
    return Section(title, rows, (), words)


def _held_out(held_out: HeldOutRanks | None) -> str:
    if held_out is None:
        return "nothing, since that takes points with several ranks and with at least twice as many"
    steps = "".join(f", and {100 * v.step.error:+.1f} % off the step of {v.mode} {v.point}" for v in held_out.steps)
    return (
        f"fitted to {joined(held_out.fitted_to)} ranks, the model is {100 * held_out.operation.error:+.1f} % off an "
        f"operation of {held_out.ranks} ranks{steps}"
    )


def _exposed(model: Communication) -> str:
    """Return why what is exposed is one figure, or a range."""
    steps = [f"{100 * v.step.error:+.1f} % at {v.mode} {v.point}" for v in model.validation if v.hosts > 1]
    if model.is_close:
        return f"exposed: simulated, bucket by bucket; the model's steps between hosts are off by {', '.join(steps)}"
    two = "exposed: all of the communication hidden that can be .. nothing hidden, since"
    if not steps:
        return f"{two} no point with ranks on several hosts was measured"
    return f"{two} the model's steps between hosts are off by {', '.join(steps)}: more than {100 * CLOSE:.0f} %"


def _dominated(dominated: Sequence[int | None]) -> str:
    found = [ranks for ranks in dominated if ranks is not None]
    if not found:
        return "nowhere"
    text = f"from {between(sorted(found), 0)} ranks on"
    return text if len(found) == len(dominated) else f"{text} if nothing is hidden, else nowhere"
