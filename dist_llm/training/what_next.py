"""What a run says at its end: the commands with which a user goes on."""

import os
import shlex
import sys
from pathlib import Path

from dist_llm.training.run import Run
from dist_llm.training.sample import known_prompt


def what_next(run: Run) -> str:
    """Return the commands with which a user goes on, after the end of `train`."""
    folder = shlex.quote(str(run.folder))
    step, max_steps = run.train_step.step, run.config.train.max_steps
    python = f"{_program('python')} -m dist_llm"
    if run.position.evaluation is not None:
        end = "finished"
        if step < max_steps:
            since = run.position.since_best
            end = f"stopped early at step {step} of {max_steps}: {since} evaluations in a row no better"
        prompt = known_prompt(run.data.tokenizer, run.data.val)
        return (
            f"{end}; best validation loss {run.position.best_val_loss:.4f}. The run is in {folder}. Train on a "
            f"text of your own, or let this model write:\n  {python}.train --data.path=FILE-OR-FOLDER\n"
            f"  {python}.generate {folder}" + f" --prompt {shlex.quote(prompt)}" * bool(prompt)
        )
    if step == max_steps:
        return f"stopped in the last evaluation, checkpoint written; to evaluate it\n  {python}.evaluate {folder}"
    launcher = f"{_program('mpirun')} -n {run.began_with} " if run.began_with > 1 else ""
    command = f"{launcher}{python}.train --resume {folder}"
    return f"stopped after step {step} of {max_steps}, checkpoint written; continue with\n  {command}"


def _program(name: str) -> str:
    """Return how to call a program of this Python's environment: by its path, unless the environment is activated."""
    beside = Path(sys.prefix) / "bin" / name
    if sys.prefix in (sys.base_prefix, os.environ.get("VIRTUAL_ENV")) or not beside.exists():
        return name
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))
