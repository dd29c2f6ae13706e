"""Measure how training speeds up with ranks and threads, and write a report.

    python -m dist_llm.scaling --quick
    python -m dist_llm.scaling --points 1x1,2x1,4x1,1x4 --network 25,10 --parallel.strategy=blocking
    python -m dist_llm.scaling --to-loss 2.5 --batch-sizes 8,16,32,64
    python -m dist_llm.scaling --compare OLD/scaling.json
    python -m dist_llm.scaling --points 1x1,8x1,64x1 --part 64x1 --out study; python -m dist_llm.scaling --merge study

One process with threads on as many cores is set beside every division into ranks. The report comes to the terminal,
and as a page, a picture, JSON and CSV into a folder of its own.
"""

import shlex
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from dist_llm.command_line import CommandLine, amount, settings, whole_number, whole_numbers
from dist_llm.config import Config
from dist_llm.errors import UserError
from dist_llm.measuring.machine import Machine, look_at_machine
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.cost import TYPICAL
from dist_llm.parallel.placement import Placement, place
from dist_llm.parallel.program import run
from dist_llm.scalability.comparison import compare, read_report
from dist_llm.scalability.exports.registry import EXPORTS, write_exports
from dist_llm.scalability.measurements import QUICK, THOROUGH, Measurements
from dist_llm.scalability.merging import merge, read_parts
from dist_llm.scalability.output import judge, out_folder, write_comparison, write_report
from dist_llm.scalability.points import MODES
from dist_llm.scalability.projection import parse_network
from dist_llm.scalability.report import make_report
from dist_llm.scalability.study import plan


def main(argv: list[str], comm: Comm) -> int:
    """Measure and report as the command line says."""
    arguments = _parser().parse_on_rank_0(argv, comm)
    if arguments is None:
        return 0
    if comm.size > 1:
        raise UserError("scaling starts mpirun itself: start it without", agreed=True)
    if len(arguments.compare) > 2:
        raise UserError("--compare takes one report, to set beside what is measured now, or two")
    if arguments.part and not arguments.out:
        raise UserError("--part needs --out, the folder of all parts")
    if arguments.part and arguments.to_loss is not None:
        raise UserError("--to-loss is for a whole study: leave it out of a --part")
    if arguments.batch_sizes and arguments.to_loss is None:
        raise UserError("--batch-sizes are those of --to-loss: name the validation loss, too")
    older = [read_report(path) for path in arguments.compare]
    if len(older) == 2:
        write_comparison(compare(*older), arguments.out)
        return 0
    networks = [parse_network(text) for text in arguments.network] or TYPICAL
    command = f"python -m dist_llm.scaling {shlex.join(argv)}".strip()
    if arguments.merge:
        parts = read_parts(arguments.merge)
        largest = max(parts, key=lambda part: part.measurements.cores)
        measured, machine = merge([part.measurements for part in parts]), largest.environment
    with out_folder(arguments.out) as folder:
        if not arguments.merge:
            measured, machine = _measure(arguments, place(comm, None))
        report = make_report(measured, machine, command, networks)
        write_report(report, folder, [compare(older[0], report)] if older else [], arguments.part)
        write_exports(report, arguments.export, folder)
    if measured.interrupted and not arguments.merge:
        raise KeyboardInterrupt
    judge(report)
    return 0


def _measure(arguments: Namespace, placement: Placement) -> tuple[Measurements, Machine]:
    wishes = {k: wish for k in ("repeats", "steps", "seconds") if (wish := getattr(arguments, k)) is not None}
    wishes |= {} if arguments.width is None else {"width": arguments.width / 100}
    wishes |= {} if arguments.patience is None else {"patience_s": 60 * arguments.patience}
    method, config = replace(QUICK if arguments.quick else THOROUGH, **wishes), settings(arguments).apply_to(Config())
    points = (arguments.points, arguments.part)
    study = plan(
        config, placement, method, arguments.mode, points, arguments.launcher, arguments.weak_batch_size,
        arguments.to_loss, arguments.batch_sizes,
    )  # fmt: skip
    machine = look_at_machine(placement, study.measured.cores)
    study.run()
    return study.measured, machine


def _parser() -> CommandLine:
    parser = CommandLine("scaling", __doc__, ("model", "data", "optim", "parallel", "train"))
    add, n = parser.add_argument, whole_number(1)
    add("--quick", action="store_true", help="fewer and shorter runs: three minutes on two cores")
    add("--mode", choices=(*MODES, "both"), default="both", help="strong: a fixed batch; weak: a batch per rank")
    points = "ranks x threads (default: 1, 2, 4, ... x 1, and the usable cores in every other division)"
    add("--points", metavar="RxT,RxT", help=points)
    add("--repeats", type=n, help="rounds, at least; each point once in each (default: 6, the least for an interval)")
    add("--steps", type=n, help="measured in a run, at least (default: 5; quick: 2)")
    add("--seconds", type=amount("seconds"), help="of a run, at least (default: 3; quick: 1)")
    width = "more rounds, until the 95%% intervals of efficiency are narrower than this (default: 2)"
    add("--width", type=amount("percent"), metavar="PERCENT", help=width)
    patience = "how long to go on for that, and for what other work disturbed (default: 10; quick: 1)"
    add("--patience", type=amount("minutes"), metavar="MINUTES", help=patience)
    add("--weak-batch-size", type=n, help="weak: sequences per step and rank (default: --train.batch_size)")
    loss = (
        "how long learning takes to this validation loss, in at most --train.max_steps x --train.batch_size sequences"
    )
    add("--to-loss", type=amount("nats per token"), metavar="LOSS", help=loss)
    sizes = "of --to-loss: sequences per step (default: half, once and twice --train.batch_size)"
    add("--batch-sizes", type=whole_numbers, default=[], metavar="N,N", help=sizes)
    network = "project to hosts joined so: latency in us, Gbit/s of a link; several allowed (default: "
    network += "; ".join(f"{typical.latency_us:g},{typical.gbit_s:g}" for typical in TYPICAL)
    add("--network", action="append", default=[], metavar="US,GBIT_S", help=f"{network})")
    add("--launcher", metavar="COMMAND", help="starts ranks, given -n RANKS (default: srun under Slurm, else mpirun)")
    add("--out", metavar="DIR", type=Path, help="where the report goes (default: runs/scaling-001, ...)")
    add("--part", metavar="RxT", help="measure this point and the first one alone, into part-RxT.json of --out")
    merged = "make the report of these parts, files or folders of them; nothing is measured"
    add("--merge", nargs="+", default=[], type=Path, metavar="PATH", help=merged)
    form = "write it for another tool too, one file for each of the tool's runs; several allowed"
    add("--export", action="append", default=[], choices=EXPORTS, help=form)
    old = "a scaling.json to set beside what is measured now; or two, and nothing is measured"
    add("--compare", nargs="+", default=[], type=Path, metavar="JSON", help=old)
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
