"""The rounds of a benchmark: all contestants are started and warmed up, and then take turns."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dist_llm.benchmarking.contestants import Contestant, long_context
from dist_llm.benchmarking.results import Report, Round, compare, summarize
from dist_llm.benchmarking.team import Team
from dist_llm.config import Config
from dist_llm.errors import RunError, UserError
from dist_llm.measuring.flops import flops_per_token
from dist_llm.measuring.machine import Machine
from dist_llm.model.llama import count_parameters


def check(chosen: Sequence[Contestant], config: Config) -> None:
    """Raise `UserError` if there are more processes than sequences."""
    for c in chosen:
        if c.processes > config.train.batch_size:
            sizes = f"{c.processes} processes and --batch-size only {config.train.batch_size}"
            raise UserError(f"{c.name} has {sizes}: each needs a sequence")


def benchmark(chosen: Sequence[Contestant], config: Config, repeats: int, steps: int, machine: Machine) -> Report:
    """Start all, let them take turns, end all, however this ends; return what was found.

    Parameters
    ----------
    repeats, steps : int
        Rounds, and training steps in a turn.

    Raises
    ------
    RunError
        A contestant failed in its turn, or none can take part.
    """
    left_out: dict[str, str] = {}
    teams: list[Team] = []
    with contextlib.ExitStack() as at_the_end:
        folder = Path(at_the_end.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        at_the_end.callback(_end_all, teams)
        for contestant in chosen:
            reason = contestant.why_not(config)
            if reason is None:
                print(f"warming up {contestant.name}", flush=True)
                teams.append(Team(contestant, config, steps, folder))
                try:
                    teams[-1].start()
                except RunError as error:
                    reason = str(error)
                    teams.pop().end()
            if reason is not None:
                left_out[contestant.name] = reason
        if not teams:
            raise RunError("no contestant can take part: " + "; ".join(f"{n}: {why}" for n, why in left_out.items()))
        rounds = [_round(teams, f"round {number} of {repeats}") for number in range(1, repeats + 1)]
    train, vocab_size = config.train, config.vocab_size
    models = {"step": config.model, "long": long_context(config).model}
    flops = {task: flops_per_token(model, vocab_size) for task, model in models.items()}
    cores, parameters = machine.local_cores, count_parameters(config.model, vocab_size)
    results, peaks = summarize([(t.contestant, t.setup) for t in teams], rounds, cores, flops)
    return Report(
        machine, config.model, parameters, flops, train.batch_size, repeats, steps, peaks, results,
        compare(results, cores), left_out,
    )  # fmt: skip


def _round(teams: Sequence[Team], title: str) -> Round:
    print(title, flush=True)
    answers = {}
    for team in teams:
        try:
            answers[team.contestant.name] = team.turn()
        except RunError as error:
            raise RunError(f"{team.contestant.name} failed in its turn: {error}") from None
    return answers


def _end_all(teams: Sequence[Team]) -> None:
    for team in teams:
        team.dismiss()
    for team in teams:
        team.end()
