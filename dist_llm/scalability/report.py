"""The report: all that was measured, and what it means, as it becomes scaling.json."""

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass

from dist_llm.config import Config
from dist_llm.measuring.flops import flops_per_token
from dist_llm.measuring.machine import Machine
from dist_llm.measuring.peak import Peak
from dist_llm.model.micro_batch import micro_batch_size
from dist_llm.parallel.strategy import Traffic
from dist_llm.scalability.analysis import Run, SeriesResult, summarize
from dist_llm.scalability.performance_model import CostModel, Sample, Validation, Work, calibrate, validate
from dist_llm.scalability.projection import Cluster, Network, Projection, project
from dist_llm.scalability.study import Method, Study
from dist_llm.scalability.verdict import verdict, warnings

FORMAT = 1


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
    calibration: list[Sample]
    cost_model: CostModel
    algorithm_is: str
    validation: list[Validation]
    base: Base
    projections: list[Projection]


@dataclass(frozen=True)
class Comparable:
    """What is compared of two reports."""

    created: str
    environment: Machine
    config: Config
    mpi: list[str]
    series: list[SeriesResult]


@dataclass(frozen=True)
class Report(Comparable):
    """All of it; `verdict` and `warnings` are the first lines."""

    command: str
    method: Method
    parameters: int
    flops_per_token: int
    failures: dict[str, str]
    peaks: list[Peak]
    communication: Communication | None
    verdict: list[str]
    warnings: list[str]
    runs: list[Run]
    format: int = FORMAT


def make_report(
    study: Study, machine: Machine, command: str, weak_sequences: int, networks: Sequence[Network]
) -> Report:
    """Turn what was measured, at least one run, into what is reported.

    The machine is as it was before the first run. The projection is to `networks`, with `weak_sequences` per rank.
    """
    config, peak = study.config, Peak.best(study.peaks)
    flops = flops_per_token(config.model, config.vocab_size)
    series = [summarize(s, study.runs, peak, config, flops) for s in study.series]
    return Report(
        created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"), environment=machine, config=config,
        mpi=sorted({run.mpi for run in study.runs if len(run.ranks) > 1}), series=series, command=command,
        method=study.method, parameters=study.parameters, flops_per_token=flops, failures=study.failures,
        peaks=study.peaks, communication=_communication(study, series, weak_sequences, networks),
        verdict=verdict(series), warnings=warnings(study, series, machine), runs=study.runs,
    )  # fmt: skip


def _communication(
    study: Study, series: Sequence[SeriesResult], weak_sequences: int, networks: Sequence[Network]
) -> Communication | None:
    """Return the model; None without a point or a calibration."""
    points = [p for s in series for p in s.points if not p.oversubscribed]
    if not points or not study.timings:
        return None
    train, traffic = study.config.train, study.traffic
    cost, samples, why = calibrate(study.timings, traffic)
    validation = [v for s in series for v in validate(s, traffic, cost, micro_batch_size(study.config))]
    # What fills the cores, and of that what has most ranks: a host as it would be in a cluster.
    point = max(points, key=lambda p: (p.cores, p.ranks))
    work, per_host = Work.of(point, micro_batch_size(study.config)), math.ceil(point.ranks / point.hosts)
    base = Base(point.point, per_host, train.batch_size, weak_sequences, work)
    cluster = Cluster(work, traffic, cost, per_host)
    projections = project(cluster, networks, train.batch_size, weak_sequences, 4 * study.parameters)
    return Communication(traffic, samples, cost, why, validation, base, projections)
