"""``dist_llm.train`` in which ranks die: ``mpirun -n N python -m tests.faults.killed_train DEATHS ARGUMENTS``.

DEATHS are like ``0@3:reduction,2@3:update``: rank 0 (by its first number) in the reduction of step 3, and so on. A rank
that is to die in the recovery of a step does so when another one has died in it.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from dist_llm.parallel.comm import Comm
from dist_llm.parallel.deterministic import Deterministic
from dist_llm.parallel.program import run
from dist_llm.train import main
from dist_llm.training import recovery
from dist_llm.training.checkpoint_writer import CheckpointWriter
from dist_llm.training.metrics import MetricsLog
from dist_llm.training.step import TrainStep
from dist_llm.training.validation import Validation

# What is called in a phase of a step: before it is, or if it is named in AFTER, when it has been, the rank dies.
PHASES: dict[str, tuple[Any, str]] = {
    "forward": (TrainStep, "_accumulate_gradients"),
    "reduction": (Deterministic, "_allreduce"),
    "update": (Deterministic, "update"),
    "evaluation": (Validation, "done"),
    "checkpoint": (CheckpointWriter, "_write"),
    "checkpoint_written": (CheckpointWriter, "_write"),
    "metrics": (MetricsLog, "write"),
    "recovery": (recovery, "_take_up"),
}
AFTER = ("update", "evaluation", "checkpoint_written", "metrics")


def killed_main(argv: list[str], comm: Comm) -> int:
    step = 0

    def dying(function: Callable, phase: str, at: int) -> Callable:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if step == at and phase not in AFTER:
                die()
            result = function(*args, **kwargs)
            if step == at and phase in AFTER:
                die()
            return result

        return wrapper

    def counting(accumulate: Callable) -> Callable:
        def wrapper(self: TrainStep, n_targets: int) -> float:
            nonlocal step
            step = self.step + 1
            return accumulate(self, n_targets)

        return wrapper

    for death in argv[0].split(","):
        rank, _, when = death.partition("@")
        at, _, phase = when.partition(":")
        if int(rank) == comm.rank:
            holder, name = PHASES[phase]
            setattr(holder, name, dying(getattr(holder, name), phase, int(at)))
    TrainStep._accumulate_gradients = counting(TrainStep._accumulate_gradients)
    return main(argv[1:], comm)


def die() -> None:
    os.kill(os.getpid(), getattr(signal, os.environ.get("DEATH", "SIGKILL")))


if __name__ == "__main__":
    sys.exit(run(killed_main))
