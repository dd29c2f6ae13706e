"""The communication model of a report: calibrated here, held against the measured points, and projected."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dist_llm.config import Config
from dist_llm.model.llama import count_parameters
from dist_llm.scalability.cost_model import CostModel, Sample, fit_best
from dist_llm.scalability.projection import (
    Cluster,
    Network,
    Work,
    communication_s,
    least_exposed_s,
    project,
)
from dist_llm.scalability.traffic import Traffic, traffic


@dataclass(frozen=True)
class Calibration:
    """What was timed on a number of ranks.

    Attributes
    ----------
    samples : list of Sample
        Of the reduction's operation; none on a single rank.
    add_s_per_byte : float
        Of the addition of arrays.
    mpi : str
        The MPI library.
    """

    samples: list[Sample]
    add_s_per_byte: float
    mpi: str


def calibration_sizes(config: Config) -> list[int]:
    """Return the bytes of the operations to be timed, from small ones to those of this model, each a multiple of 4."""
    assert config.model.vocab_size is not None
    parameters = count_parameters(config.model, config.model.vocab_size)
    message = traffic(config.parallel, parameters).message_bytes
    return sorted({1 << 10, 1 << 13, 1 << 16, 1 << 19, -(-message // 4) * 4, -(-message // 16) * 4})


def communication_model(
    series: Sequence[Mapping[str, Any]],
    calibrations: Mapping[int, Calibration],
    config: Config,
    parameters: int,
    weak_sequences: int,
    networks: Sequence[Network],
) -> dict[str, Any] | None:
    """Calibrate, validate and project.

    Parameters
    ----------
    series : sequence of dict
        As of `analysis.summarize`.
    calibrations : mapping
        By number of ranks.
    weak_sequences : int
        Per rank, of weak scaling.
    networks : sequence of Network
        To project to.

    Returns
    -------
    dict or None
        None without a point or a calibration.
    """
    points = [(s, p) for s in series for p in s["points"] if not p["oversubscribed"]]
    if not points or not calibrations:
        return None
    sends = traffic(config.parallel, parameters)
    samples = [sample for calibration in calibrations.values() for sample in calibration.samples]
    largest = calibrations[max(calibrations)]
    ring_is_set = largest.mpi.startswith("Open MPI")
    if samples:
        cost, errors = fit_best(samples, sends, largest.add_s_per_byte, ring_is_set)
    else:
        cost, errors = CostModel("ring", 0.0, 0.0, largest.add_s_per_byte), []
    # What fills the cores, and of that what has most ranks: a host as it would be in a cluster.
    _, base = max(points, key=lambda pair: (pair[1]["cores"], pair[1]["ranks"]))
    per_host = math.ceil(base["ranks"] / base["hosts"])
    cluster = Cluster(Work.of(base, config.train.micro_batch_size), sends, cost, per_host)
    return {
        "traffic": asdict(sends),
        "calibration": [{**sample._asdict(), "error": error} for sample, error in zip(samples, errors, strict=True)],
        "cost_model": asdict(cost),
        "algorithm_is": _why(sends, ring_is_set, samples),
        "validation": [_validate(s, p, sends, cost, config) for s, p in points if _is_comparable(s, p)],
        "base": {
            "point": base["point"],
            "ranks_per_host": per_host,
            "batch_size": config.train.batch_size,
            "weak_sequences": weak_sequences,
            "work": asdict(cluster.work),
        },
        "projections": project(cluster, networks, config.train.batch_size, weak_sequences, 4 * parameters),
    }


def _why(sends: Traffic, ring_is_set: bool, samples: Sequence[Sample]) -> str:
    if not samples:
        return "assumed: nothing was measured on several ranks"
    if sends.operation == "started all-reduce" and ring_is_set:
        return "which dist_llm has Open MPI use"
    if "all-reduce" not in sends.operation:
        return "of which the operation's cost has the form"
    two = {sample.ranks for sample in samples} == {2}
    return "fits best" + "; two ranks cannot tell ring from Rabenseifner" * two


def _is_comparable(series: Mapping[str, Any], p: Mapping[str, Any]) -> bool:
    """Whether a point differs from the reference in its ranks alone."""
    return p["ranks"] > 1 and p["threads"] == series["points"][0]["threads"]


def _validate(
    series: Mapping[str, Any], p: Mapping[str, Any], sends: Traffic, cost: CostModel, config: Config
) -> dict[str, Any]:
    """Predict a point from the reference and the model, and compare.

    What is waited for lies between the least and the most that overlap leaves; the ``error`` is that of the nearer end,
    and zero in between.
    """
    work = Work.of(series["points"][0], config.train.micro_batch_size)
    sequences = math.ceil(p["batch_size"] / p["ranks"])
    most_s = communication_s(sends, cost, p["ranks"], 1)
    least_s = least_exposed_s(sends, most_s, work.window_s(sequences))
    # Inside a host communication is work of the cores, and takes its time also where nobody waits for it.
    added_s = (most_s, most_s) if p["hosts"] == 1 else (least_s, most_s)
    predicted_s = [work.step_s(sequences) + communication for communication in added_s]
    return {
        "mode": series["mode"],
        "point": p["point"],
        "communication": _compared(p["seconds"]["communication"], [least_s, most_s]),
        "step": _compared(p["step_s"], predicted_s),
    }


def _compared(measured_s: float, predicted_s: Sequence[float]) -> dict[str, Any]:
    nearest = min(max(measured_s, predicted_s[0]), predicted_s[1])
    return {
        "measured_s": measured_s,
        "predicted_s": list(predicted_s),
        "error": nearest / measured_s - 1 if measured_s else 0.0,
    }
