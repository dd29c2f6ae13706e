"""A measurement in processes of its own: ``python -m dist_llm.scalability.job TASK``, alone or under a launcher.

The task comes as JSON on the command line and the answer goes to stdout, rank 0's, marked: both reach every host that
a launcher reaches, and no common file system is needed.
"""

import json
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dist_llm.benchmarking.training_step import TrainingStep
from dist_llm.config import Config
from dist_llm.data.loader import Loader
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import peak_memory_bytes, place
from dist_llm.parallel.program import run
from dist_llm.scalability.calibration import measure_all_reduce
from dist_llm.scalability.disturbance import Witness, cpus_of_host, disturbance
from dist_llm.scalability.meetings import Meetings
from dist_llm.training.open_everywhere import open_everywhere

MARK = "measured: "
WARM_UP_STEPS = 2


def main(argv: list[str], comm: Comm) -> int:
    """Measure what the task says; rank 0 prints the answer."""
    task = json.loads(argv[0])
    config = Config().replace(task["config"])
    keep_freed_memory()
    if task["work"] == "all-reduce":
        place(comm, 1)
        answer = measure_all_reduce(comm, config.parallel, task["sizes_bytes"])
    else:
        answer = measure_training(comm, config, task["steps"], task["seconds"])
    if comm.rank == 0:
        print(MARK + json.dumps(answer), flush=True)
    return 0


def measure_training(comm: Comm, config: Config, least_steps: int, least_s: float) -> dict[str, Any]:
    """Train from the beginning, and measure the steps after the first ones; collective.

    Parameters
    ----------
    config : Config
        With ``data.shards``, which rank 0 has, and ``parallel.threads``.
    least_steps : int
    least_s : float
        As many steps are measured as take so long, and not fewer than `least_steps`.

    Returns
    -------
    dict
        ``steps``, ``seconds`` (of the slowest rank), ``losses`` of all steps from the first on, ``disturbance``, and
        ``ranks``, a dict for each: seconds of compute, data, optimizer, imbalance, communication and the rest, memory,
        bytes sent, placement.
    """
    placement = place(comm, config.parallel.threads)
    _, tokens, _, _ = open_everywhere(Path(str(config.data.shards)), comm)
    loader = Loader(tokens, config.train.batch_size, config.model.max_seq_len, config.train.seed)
    step = TrainingStep(config, comm, loader)
    meetings = Meetings(comm, step.reduction)

    losses = []
    for _ in range(WARM_UP_STEPS):
        start = time.perf_counter()
        losses.append(step.take())
        last_s = time.perf_counter() - start
    steps = max(least_steps, math.ceil(least_s / max(comm.gather(last_s))))
    if not step.reduction.synchronous:  # whole rounds of local steps, or the meetings that end them would not count
        rounds = -(-steps // config.parallel.local_steps)
        losses += [step.take() for _ in range(-WARM_UP_STEPS % config.parallel.local_steps)]
        steps = rounds * config.parallel.local_steps

    cpus = cpus_of_host(comm, placement)
    comm.all_reduce_(np.zeros(1))  # all leave it at the same moment
    witness = Witness(cpus)
    meetings.reset()
    step.reset()
    start = time.perf_counter()
    losses += [step.take() for _ in range(steps)]
    total_s = time.perf_counter() - start
    witnessed = witness.report()

    clocks = step.phases.seconds
    imbalance_s, communication_s = meetings.waiting()
    seconds = {
        "compute": clocks["forward"] + clocks["backward"],
        "communication": communication_s,
        "imbalance": imbalance_s,
        "data": clocks["data"],
        "optimizer": clocks["optimizer"],
    }
    seconds["other"] = total_s - sum(seconds.values())
    rank = {
        "seconds": seconds,
        "total_s": total_s,
        "backward_s": clocks["backward"],
        "peak_memory_bytes": peak_memory_bytes(),
        "bytes_sent": step.bytes_sent,
        "placement": asdict(placement),
    }
    step.reduction.close()
    ranks = comm.gather(rank)
    return {
        "steps": steps,
        "seconds": max(r["total_s"] for r in ranks),
        "losses": losses,
        "disturbance": disturbance(comm, placement, witnessed),
        "mpi": comm.mpi_version,
        "ranks": ranks,
    }


if __name__ == "__main__":
    sys.exit(run(main))
