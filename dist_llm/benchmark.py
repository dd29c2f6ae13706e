"""``python -m dist_llm.benchmark``: speed side by side with PyTorch, JAX, Hugging Face and the machine's own peak.

python -m dist_llm.benchmark --out benchmark
python -m dist_llm.benchmark --only sgemm,numpy-1x1,torch-eager-1 --repeats 9
python -m dist_llm.benchmark --only generation,bpe-encoding

All contestants are started and warmed up first, and then take turns: in each round every one of them works for a
moment, while the others sleep. A machine that is slower in the third minute than in the first is slower for all.
"""

import contextlib
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dist_llm import __version__
from dist_llm.benchmarking.contestants import Contestant, choose, contestants, long_context
from dist_llm.benchmarking.flops import FORMULA, flops_per_token
from dist_llm.benchmarking.peers import not_installed, why_not
from dist_llm.benchmarking.picture import draw
from dist_llm.benchmarking.report import summarize, text
from dist_llm.benchmarking.team import Team
from dist_llm.command_line import CommandLine, configuration, whole_number
from dist_llm.config import Config
from dist_llm.durable import write_text
from dist_llm.errors import RunError, UserError
from dist_llm.model.llama import count_parameters
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.parallel.program import run


def main(argv: list[str], comm: Comm) -> int:
    """Measure as the command line says."""
    parser = CommandLine("benchmark", "Measure speed, contestants side by side.", ("model",))
    count = whole_number(1)
    parser.add_argument("--out", metavar="DIR", type=Path, help="write benchmark.json and benchmark.png there")
    parser.add_argument("--only", metavar="NAME,NAME", help="choose contestants or tasks (default: all of --list)")
    parser.add_argument("--list", action="store_true", help="print the contestants and end")
    parser.add_argument("--repeats", type=count, default=5, help="rounds; each contestant once in each (default: 5)")
    parser.add_argument("--steps", type=count, default=3, help="training steps in a turn (default: 3)")
    parser.add_argument("--batch-size", type=count, help="sequences per step over all ranks (default: 16)")
    parser.add_argument("--micro-batch-size", type=count, help="of the numpy contestants (default: 2)")
    parser.add_argument("--ranks", type=count, help="processes of those that have several (default: usable cores)")
    arguments = parser.parse_on_rank_0(argv, comm)
    if arguments is None:
        return 0
    if comm.size > 1:
        raise UserError("the benchmark starts mpirun itself: start it without", agreed=True)
    placement = place(comm, None)
    cores = placement.threads
    everyone = contestants(cores, arguments.ranks or cores)
    if arguments.list:
        width, task_width = max(len(c.name) for c in everyone), max(len(c.task) for c in everyone)
        for c in everyone:
            print(f"{c.task:{task_width}}  {c.name:{width}}  {c.what} ({c.processes} x {c.threads})")
        return 0
    chosen = choose(everyone, arguments.only)
    config = _configuration(arguments)
    for c in chosen:
        if c.processes > config.train.batch_size:
            raise UserError(
                f"{c.name} has {c.processes} processes and --batch-size only {config.train.batch_size}: "
                "each needs a sequence"
            )
    if arguments.out is not None:
        if arguments.out.exists() and not arguments.out.is_dir():
            raise UserError(f"--out: {arguments.out} is a file: name a folder")
        arguments.out.mkdir(parents=True, exist_ok=True)

    assert config.model.vocab_size is not None
    flops = {
        "step": flops_per_token(config.model, config.model.vocab_size),
        "long": flops_per_token(long_context(config).model, config.model.vocab_size),
    }
    report: dict[str, Any] = {
        "dist_llm": __version__,
        "machine": {
            "platform": platform.platform(),
            "cores": cores,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "blas": placement.blas,
        },
        "model": {key: getattr(config.model, key) for key in config.model.__dataclass_fields__},
        "parameters": count_parameters(config.model, config.model.vocab_size),
        "flops_per_token": flops,
        "flops_formula": FORMULA,
        "batch_size": config.train.batch_size,
        "repeats": arguments.repeats,
        "steps": arguments.steps,
    }
    print(
        f"{report['parameters']:,} parameters, {config.train.batch_size} x {config.model.max_seq_len} tokens per step; "
        f"{arguments.repeats} rounds, {arguments.steps} steps in each turn; {cores} usable cores",
        flush=True,
    )
    teams, left_out, rounds = _measure(chosen, config, arguments.repeats, arguments.steps)
    report |= summarize(teams, rounds, cores, flops) | {"left_out": left_out}
    print(f"\n{text(report)}", flush=True)
    if arguments.out is not None:
        write_text(arguments.out / "benchmark.json", json.dumps(report, indent=1) + "\n")
        drawn = draw(report, arguments.out / "benchmark.png")
        print(f"written: benchmark.json{' and benchmark.png' * drawn} in {arguments.out}")
    return 0


def _configuration(arguments: Any) -> Config:
    config = configuration(arguments)
    train = {"batch_size": arguments.batch_size, "micro_batch_size": arguments.micro_batch_size}
    return config.replace(
        {
            "model": {"vocab_size": config.model.vocab_size or 512},
            "train": {key: value for key, value in train.items() if value is not None},
        }
    )


def _measure(
    chosen: Sequence[Contestant], config: Config, repeats: int, steps: int
) -> tuple[list[tuple[Contestant, str]], dict[str, str], list[dict[str, Any]]]:
    """Start all, let them take turns, end all, however this ends.

    Returns
    -------
    teams : list of (Contestant, str)
        Those that took part, and how they work.
    left_out : dict
        The names of the others, and why.
    rounds : list of dict
        As `summarize` takes them.
    """
    left_out = {}
    teams: list[Team] = []
    with contextlib.ExitStack() as at_the_end:
        folder = Path(at_the_end.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        at_the_end.callback(_end_all, teams)
        config_file = folder / "config.toml"
        write_text(config_file, config.to_toml())
        for contestant in chosen:
            reason = _why_not(contestant, config)
            if reason is None:
                print(f"warming up {contestant.name}", flush=True)
                team = Team(contestant, config_file, steps, folder)
                teams.append(team)
                try:
                    team.start()
                except RunError as error:
                    teams.remove(team)
                    team.end()
                    reason = str(error)
            if reason is not None:
                left_out[contestant.name] = reason
        if not teams:
            raise RunError("no contestant can take part: " + "; ".join(f"{n}: {why}" for n, why in left_out.items()))
        rounds = []
        for number in range(1, repeats + 1):
            print(f"round {number} of {repeats}", flush=True)
            rounds.append({team.contestant.name: _turn(team) for team in teams})
    return [(team.contestant, team.setup) for team in teams], left_out, rounds


def _why_not(contestant: Contestant, config: Config) -> str | None:
    """Return why a contestant cannot take part here; None if it can."""
    if contestant.kind in ("torch", "jax"):
        return why_not(contestant.kind, config.model)
    return not_installed("tokenizers") if contestant.kind == "huggingface" else None


def _end_all(teams: Sequence[Team]) -> None:
    for team in teams:
        team.dismiss()
    for team in teams:
        team.end()


def _turn(team: Team) -> list[dict[str, Any]]:
    try:
        return team.turn()
    except RunError as error:
        raise RunError(f"{team.contestant.name} failed in its turn: {error}") from None


if __name__ == "__main__":
    sys.exit(run(main))
