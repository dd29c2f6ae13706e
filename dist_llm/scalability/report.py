"""The report: all that was measured, and what it means, as it becomes scaling.json."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dist_llm.measuring.flops import flops_per_token
from dist_llm.measuring.machine import Machine
from dist_llm.measuring.peak import Peak
from dist_llm.model.micro_batch import micro_batch_size
from dist_llm.parallel.cost import MEMORY, CostModel, Network
from dist_llm.parallel.strategy import Traffic
from dist_llm.parallel.topology import Topology
from dist_llm.scalability.analysis import SeriesResult, summarize
from dist_llm.scalability.measurements import Measurements
from dist_llm.scalability.model_check import HeldOutRanks, Validation, hold_out, is_close, validate, why_not
from dist_llm.scalability.overlap import Overlap
from dist_llm.scalability.performance_model import Model, Sample, Work, ranks_per_host
from dist_llm.scalability.projection import Cluster, Projection, project
from dist_llm.scalability.recommendation import recommendation
from dist_llm.scalability.time_to_loss import ToLoss, time_to_loss
from dist_llm.scalability.verdict import verdict, warnings

FORMAT = 2


@dataclass(frozen=True)
class Base:
    """What is projected: the measured point, and what its host does."""

    point: str
    ranks_per_host: int
    batch_size: int
    weak_sequences: int
    work: Work


@dataclass(frozen=True)
class Communication:
    """The performance model of communication: calibrated, held against the measured points, and projected."""

    traffic: Traffic
    gathered_bytes: int  # of updates that ranks share out, in a step
    calibration: list[Sample]
    cost_model: CostModel
    algorithm_is: str
    overlaps: list[Overlap]
    validation: list[Validation]
    held_out: HeldOutRanks | None
    why_not: str  # why nothing is projected; "" if nothing stands against it
    is_close: bool  # whether what is exposed is one figure
    base: Base | None  # None where nothing is projected
    projections: list[Projection]


@dataclass(frozen=True)
class Comparable:
    """What is compared of two reports, and what several are merged from."""

    created: str
    command: str
    environment: Machine
    measurements: Measurements
    mpi: list[str]
    series: list[SeriesResult]


@dataclass(frozen=True)
class Report(Comparable):
    """All of it; `verdict` and `warnings` are the first lines."""

    parameters: int
    flops_per_token: int
    communication: Communication | None
    verdict: list[str]
    warnings: list[str]
    to_loss: ToLoss | None = None  # None if that was not asked for
    format: int = FORMAT


def make_report(measured: Measurements, machine: Machine, command: str, networks: Sequence[Network]) -> Report:
    """Turn what was measured, at least one run, into what is reported.

    The machine is as it was before the first run. The projection is to `networks`.
    """
    config, peak = measured.config, Peak.best(measured.peaks)
    flops = flops_per_token(config.model, config.vocab_size)
    series = [summarize(s, measured.runs, peak, config, flops) for s in measured.series]
    to_loss = None
    if target := measured.to_loss:
        of_batches = {s.sequences: summarize(s, measured.runs, peak, config, flops) for s in target.series}
        to_loss = time_to_loss(target.loss, measured.learned, of_batches)
    return Report(
        created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"), command=command,
        environment=machine, measurements=measured,
        mpi=sorted({run.mpi for run in measured.runs if len(run.ranks) > 1}), series=series,
        parameters=measured.parameters, flops_per_token=flops,
        communication=_communication(measured, series, networks),
        verdict=[*verdict(series), recommendation(series, config.train.batch_size, to_loss)], to_loss=to_loss,
        warnings=warnings(measured, series, machine),
    )  # fmt: skip


def _communication(
    measured: Measurements, series: Sequence[SeriesResult], networks: Sequence[Network]
) -> Communication | None:
    """Return the model, None without a calibration; it projects nothing without a point that nothing stands against."""
    if not measured.timings:
        return None
    config, of_all = measured.config, [p for s in series for p in s.points]
    # Calibration may have gone well where all points have failed.
    traffic = max(of_all, key=lambda p: p.ranks).traffic if of_all else measured.traffic(Topology(1, 1, MEMORY))
    gathered_bytes, micro_batch = measured.gathered_bytes, micro_batch_size(config)
    model, samples, why = Model.of(measured.timings, gathered_bytes)
    validation = [v for s in series for v in validate(s, model, micro_batch)]
    held_out = hold_out(measured.timings, gathered_bytes, series, micro_batch)
    found = Communication(
        traffic, gathered_bytes, samples, model.between, why, model.overlaps, validation, held_out,
        why_not(samples, held_out, validation), is_close(validation), None, [],
    )  # fmt: skip
    points = [p for p in of_all if not (p.oversubscribed or p.doubt)]
    if not points or found.why_not:
        return found
    if not found.is_close:
        model = replace(model, overlaps=[])
    # What fills the cores, and of that what has most ranks: a host as it would be in a cluster.
    point = max(points, key=lambda p: (p.cores, p.ranks))
    work, per_host = model.work_of(point, micro_batch), ranks_per_host(point)
    base = Base(point.point, per_host, config.train.batch_size, measured.weak_sequences, work)
    clusters = [Cluster(work, model.over(network), measured.traffic, per_host, network) for network in networks]
    n_bytes = 4 * measured.parameters
    projections = [project(c, base.batch_size, base.weak_sequences, n_bytes) for c in clusters]
    return replace(found, base=base, projections=projections)
