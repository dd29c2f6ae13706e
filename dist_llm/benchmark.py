"""Measure speed side by side with PyTorch, JAX, Hugging Face and the machine's own peak.

    python -m dist_llm.benchmark --out benchmark
    python -m dist_llm.benchmark --only sgemm,numpy-1x1,torch-eager-1 --repeats 9
    python -m dist_llm.benchmark --only generation,bpe-encoding
    python -m dist_llm.benchmark --config stories15M --only sgemm,numpy-Nx1,bf16-Nx1,torch-bf16-all --batch-size 8

All contestants are started and warmed up first, and then take turns: in each round every one of them works for a
moment, while the others sleep. A machine that is slower in the third minute than in the first is slower for all.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from dist_llm.atomic import write_bytes, write_text
from dist_llm.benchmarking.bar_chart import draw_benchmark
from dist_llm.benchmarking.contestants import choose, contestants
from dist_llm.benchmarking.results import text
from dist_llm.benchmarking.rounds import benchmark, check
from dist_llm.command_line import CommandLine, settings, whole_number
from dist_llm.config import Config
from dist_llm.errors import UserError
from dist_llm.measuring.machine import look_at_machine
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.parallel.program import run
from dist_llm.settings import Settings


def main(argv: list[str], comm: Comm) -> int:
    """Measure as the command line says."""
    parser = CommandLine("benchmark", __doc__, ("model",))
    count = whole_number(1)
    parser.add_argument("--out", metavar="DIR", type=Path, help="write benchmark.json and benchmark.png there")
    parser.add_argument("--only", metavar="NAME,NAME", help="choose contestants or tasks (default: all of --list)")
    parser.add_argument("--list", action="store_true", help="print the contestants and end")
    parser.add_argument("--repeats", type=count, default=5, help="rounds; each contestant once in each (default: 5)")
    parser.add_argument("--steps", type=count, default=3, help="training steps in a turn (default: 3)")
    parser.add_argument("--batch-size", type=count, default=16, help="sequences per step, all ranks (default: 16)")
    parser.add_argument("--ranks", type=count, help="processes of those that have several (default: usable cores)")
    parser.add_argument("--llama2c", metavar="RUN.C", type=Path, help="llama2.c's run.c, for generation-llama2c")
    arguments = parser.parse_on_rank_0(argv, comm)
    if arguments is None:
        return 0
    if comm.size > 1:
        raise UserError("the benchmark starts mpirun itself: start it without", agreed=True)
    placement = place(comm, None)
    cores, out = placement.threads, arguments.out
    if arguments.llama2c is not None and not arguments.llama2c.is_file():
        raise UserError(f"--llama2c: there is no file {arguments.llama2c}")
    everyone = contestants(cores, arguments.ranks or cores, arguments.llama2c)
    if arguments.list:
        width, task_width = max(len(c.name) for c in everyone), max(len(c.task) for c in everyone)
        for c in everyone:
            print(f"{c.task:{task_width}}  {c.name:{width}}  {c.what} ({c.processes} x {c.threads})")
        return 0
    chosen = choose(everyone, arguments.only)
    config = configuration(settings(arguments), arguments.batch_size)
    check(chosen, config)
    if out is not None:
        if out.exists() and not out.is_dir():
            raise UserError(f"--out: {out} is a file: name a folder")
        out.mkdir(parents=True, exist_ok=True)
    report = benchmark(chosen, config, arguments.repeats, arguments.steps, look_at_machine(placement, cores))
    print(f"\n{text(report)}", flush=True)
    if out is not None:
        write_text(out / "benchmark.json", json.dumps(asdict(report), indent=1) + "\n")
        picture = draw_benchmark(report)
        if picture is not None:
            write_bytes(out / "benchmark.png", picture.png)
        print(f"written: benchmark.json{' and benchmark.png' * (picture is not None)} in {out}")
    return 0


def configuration(settings: Settings, batch_size: int) -> Config:
    """Return what all contestants work on: the model that was set, and steps of AdamW, which every one of them has.

    Raises
    ------
    UserError
        As `Settings.apply_to`.
    """
    wanted = settings.changed(Config())
    vocab_size = wanted.model.vocab_size or wanted.data.vocab_size
    config = Config(model=wanted.model).replace({"model": {"vocab_size": vocab_size}})
    return config.replace({"train": {"batch_size": batch_size}, "optim": {"optimizer": "adamw"}}).validated()


if __name__ == "__main__":
    sys.exit(run(main))
