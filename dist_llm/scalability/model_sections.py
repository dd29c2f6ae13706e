"""What the report says of communication: the model, its errors, and what it expects of other networks."""

from collections.abc import Sequence
from typing import Any

from dist_llm.scalability.projection import EFFICIENT
from dist_llm.scalability.section import Row, Section, between
from dist_llm.scalability.traffic import OPERATIONS


def model_sections(model: dict[str, Any] | None) -> list[Section]:
    """Return the sections of a communication model; none without one."""
    if model is None:
        return []
    calibrated = [_calibration(model)] if model["calibration"] else []
    validated = [_validation(model)] if model["validation"] else []
    return [*calibrated, *validated, *(_projection(projection, model) for projection in model["projections"])]


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
    speed = f"{1e-9 / cost['s_per_byte']:.3g} GB/s" if cost["s_per_byte"] else "no limit found"
    every = f" every {traffic['every_steps']} steps" if traffic["every_steps"] > 1 else ""
    return Section(
        f"communication: {OPERATIONS[traffic['operation']]}; {traffic['messages']} of {traffic['message_bytes']:,} "
        f"bytes{every or ' in a step'}",
        rows,
        (),
        [
            f"model: {cost['algorithm']} ({model['algorithm_is']}), latency {1e6 * cost['latency_s']:.2f} us, {speed}, "
            f"additions {1e-9 / cost['add_s_per_byte']:.3g} GB/s; Thakur, Rabenseifner and Gropp 2005",
            f"error of the fit: {100 * sum(errors) / len(errors):.0f} % on average, {100 * max(errors):.0f} % at most",
        ],
    )


def _validation(model: dict[str, Any]) -> Section:
    rows: list[Row] = [("", "waiting ms", "model", "error", "step ms", "model", "error")]
    for v in model["validation"]:
        cells: list[str] = []
        for what in (v["communication"], v["step"]):
            predicted = between([1e3 * s for s in what["predicted_s"]], 2)
            cells += [f"{1e3 * what['measured_s']:,.2f}", predicted, f"{100 * what['error']:+.1f} %"]
        rows.append((f"{v['mode']} {v['point']}", *cells))
    return Section(
        "the model against the measured points",
        rows,
        words=[
            "waiting: for communication, from all that overlap can hide to nothing hidden; error: of the nearer end",
            "step: the reference's compute per sequence and fixed work, and the model's communication; what ranks wait "
            "for each other (imbalance) and what they take from each other (memory, power) is not in it",
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
                between([1e3 * s for s in row["exposed_s"]], 1),
                *(f"{1e3 * row['one_message_s']:,.1f}" for _ in in_one),
                between([100 * e for e in row["weak_efficiency"]], 1, " %"),
                "fewer sequences than ranks" if strong is None else between([100 * e for e in strong], 1, " %"),
                f"{row['sequences_per_rank']:,}",
                f"{row['local_steps']:,}",
            )
        )
    up_to, dominated = projection["efficient_up_to"], projection["dominated_from"]
    sequences = f"{weak} sequence{'s' * (weak != 1)} per rank"
    words = [
        f"with {sequences}, {percent} efficient up to {between(up_to, 0)} ranks (of 2 ... 1,024); waiting is more "
        f"than half of a step {_dominated(dominated)}",
    ]
    if traffic["overlaps"] and in_one:  # a single message begins when nothing is left to hide it behind
        words.append(
            "two figures: nothing of the communication hidden .. all of it that the last backward pass can hide"
        )
    if in_one:
        words.append("in one message: with --parallel.bucket_bytes as large as the model, and nothing hidden")
    return Section(
        f"projection (not measured): hosts like this one, ranks on each: {base['ranks_per_host']}, network of "
        f"{projection['network']}; weak: {sequences}, strong: {base['batch_size']} in all",
        rows,
        (),
        words,
    )


def _dominated(dominated: Sequence[int | None]) -> str:
    found = [ranks for ranks in dominated if ranks is not None]
    if not found:
        return "nowhere"
    text = f"from {between(sorted(found), 0)} ranks on"
    return text if len(found) == len(dominated) else f"{text} if nothing is hidden, else nowhere"
