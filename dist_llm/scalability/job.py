"""A measurement in processes of its own: ``python -m dist_llm.scalability.job TASK``, alone or under a launcher.

The task comes as JSON on the command line and the answer goes to stdout, rank 0's, marked: both reach every host that
a launcher reaches, and no common file system is needed.
"""

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any, TypeVar

import msgspec

from dist_llm.config import Config
from dist_llm.errors import RunError
from dist_llm.measuring.jobs import Launcher, end, last_words, start
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.program import run
from dist_llm.scalability.learning_run import LearningRun, learn
from dist_llm.scalability.operations import Timings, measure_operation
from dist_llm.scalability.points import Point
from dist_llm.scalability.training_run import Training, measure_training

MARK = "measured: "

Answer = TypeVar("Answer")


def run_job(launcher: Launcher, point: Point, task: dict[str, Any], answer: type[Answer]) -> Answer:
    """Start a job, wait for it and return its answer; however this ends, the job has ended too.

    The task is ``config``, and the arguments of `measure_training`, of `measure_operation` or of `learn`. `RunError` is
    raised if the job ends without an answer, and says its last words.
    """
    launch, module = launcher.command(point.ranks, point.threads), "dist_llm.scalability.job"
    with start(launch, module, [json.dumps(task)], point.threads, subprocess.PIPE) as process:
        try:
            out, err = process.communicate()
        except BaseException:
            end([process], patience_s=0.0)
            raise
    answers = [line.removeprefix(MARK) for line in out.splitlines() if line.startswith(MARK)]
    if process.returncode or not answers:
        raise RunError(last_words(f"{out}\n{err}"))
    return msgspec.convert(json.loads(answers[-1]), answer)


def main(argv: list[str], comm: Comm) -> int:
    """Measure what the task says; rank 0 prints the answer."""
    task = json.loads(argv[0])
    config = Config().replace(task.pop("config"))
    keep_freed_memory()
    answer: Timings | Training | LearningRun
    if "parameters" in task:
        answer = measure_operation(comm, config, **task)
    elif "to_loss" in task:
        answer = learn(comm, config, **task)
    else:
        answer = measure_training(comm, config, **task)
    if comm.rank == 0:
        print(MARK + json.dumps(asdict(answer)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
