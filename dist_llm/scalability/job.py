"""A measurement in processes of its own: ``python -m dist_llm.scalability.job TASK``, alone or under a launcher.

The task comes as JSON on the command line and the answer goes to stdout, rank 0's, marked: both reach every host that
a launcher reaches, and no common file system is needed.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, TypeVar

import msgspec
import numpy as np

from dist_llm.config import Config, ParallelConfig
from dist_llm.errors import RunError
from dist_llm.measuring.jobs import Launcher, end, last_words, start
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.parallel.program import run
from dist_llm.parallel.registry import STRATEGIES
from dist_llm.partition import partition
from dist_llm.scalability.points import Point
from dist_llm.scalability.training_run import Training, measure_training

MARK = "measured: "
BATCHES, BATCH_S = 7, 0.03

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Timings:
    """Seconds of a strategy's operation on a number of ranks, for arrays of some sizes."""

    sizes_bytes: list[int]
    seconds: list[float]
    add_s_per_byte: float  # of adding arrays on one rank, with as many at work
    mpi: str


def run_job(launcher: Launcher, point: Point, task: dict[str, Any], answer: type[Answer]) -> Answer:
    """Start a job, wait for it and return its answer; however this ends, the job has ended too.

    The task is ``config``, and the arguments of `measure_training` or of `measure_operation`. `RunError` is raised if
    the job ends without an answer, and says its last words.
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
    answer: Timings | Training
    if "sizes_bytes" in task:
        place(comm, 1)
        answer = measure_operation(comm, config.parallel, **task)
    else:
        answer = measure_training(comm, config, **task)
    if comm.rank == 0:
        print(MARK + json.dumps(asdict(answer)), flush=True)
    return 0


def measure_operation(comm: Comm, config: ParallelConfig, sizes_bytes: list[int]) -> Timings:
    """Time the operation that a strategy uses, and the addition of arrays of the last size; collective."""
    operation = STRATEGIES[config.strategy].load().traffic(config, 1).operation
    seconds = [_time(comm, _prepared(comm, operation, size)) for size in sizes_bytes]
    total, other = (np.ones(max(1, sizes_bytes[-1] // 4), np.float32) for _ in range(2))
    add_s = _time(comm, lambda: np.add(total, other, out=total))
    return Timings(sizes_bytes, seconds, add_s / total.nbytes, comm.mpi_version)


def _prepared(comm: Comm, operation: str, size_bytes: int) -> Callable[[], object]:
    """Return the operation on an array of its own: of numbers, or of bytes that encode some."""
    dtype = np.dtype(np.uint8 if operation == "all-to-all, all-gather" else np.float32)
    array = np.zeros(max(1, size_bytes // dtype.itemsize), dtype)
    shards = partition(array.size, comm.size)
    return {
        "all-to-all, all-gather": lambda: (comm.alltoallv(array, shards), comm.allgatherv_(array, shards)),
        "reduce-scatter, all-gather": lambda: (comm.reduce_scatter(array, shards), comm.allgatherv_(array, shards)),
        "nonblocking all-reduce": lambda: comm.iallreduce_(array).wait(),
        "all-reduce": lambda: comm.allreduce_(array),
    }[operation]


def _time(comm: Comm, operate: Callable[[], object]) -> float:
    """Return the seconds of one operation of many, one behind the other, on the slowest rank."""

    def batch(n: int) -> float:
        comm.allreduce_(np.zeros(1))  # all begin together
        start_s = time.perf_counter()
        for _ in range(n):
            operate()
        return (time.perf_counter() - start_s) / n

    n = max(1, int(BATCH_S / max(comm.allgather(batch(3)))))
    return median(max(comm.allgather(batch(n))) for _ in range(BATCHES))


if __name__ == "__main__":
    sys.exit(run(main))
