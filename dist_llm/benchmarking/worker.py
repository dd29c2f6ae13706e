"""A process of a contestant: prepares itself, then waits for its turns.

Started by `team`, as ``python -m dist_llm.benchmarking.worker TASK [RANK]``. What it says, in this order: who it is,
how it works once it is warm, and at each turn what it measured.
"""

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dist_llm.benchmarking import generation, jax_worker, numpy_worker, sgemm, tokenizing, torch_worker
from dist_llm.benchmarking.channel import Channel
from dist_llm.benchmarking.contestants import Contestant, long_context
from dist_llm.config import Config, read_toml
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import peak_memory_bytes
from dist_llm.parallel.program import run


def main(argv: list[str], comm: Comm) -> int:
    """Work until the benchmark closes the channel."""
    task = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    rank = int(argv[1]) if len(argv) > 1 else comm.rank
    channel = Channel.to(task["socket"])
    channel.send({"rank": rank})
    try:
        setup, turn = _prepare(task, rank, comm)
        channel.send({"setup": setup})
        while channel.receive():
            channel.send(turn() | {"peak_memory_bytes": peak_memory_bytes()})
    except Exception as error:
        traceback.print_exc()
        first_line = next(iter(str(error).splitlines()), "")
        channel.send({"error": f"{type(error).__name__}: {first_line}"})
        return 1
    return 0


def _prepare(task: dict[str, Any], rank: int, comm: Comm) -> tuple[str, Callable[[], dict[str, Any]]]:
    contestant = Contestant(**task["contestant"])
    config, steps = Config().replace(read_toml(task["config"])), task["steps"]
    if contestant.kind == "sgemm":
        return sgemm.prepare(contestant.threads)
    if contestant.task.startswith("bpe"):
        return tokenizing.prepare(contestant, config)
    if contestant.task == "generation":
        prepare = generation.prepare_numpy if contestant.kind == "numpy" else generation.prepare_torch
        return prepare(contestant, config)
    if contestant.task == "long":
        config, steps = long_context(config), 1
    if contestant.kind == "numpy":
        return numpy_worker.prepare(contestant, config, steps, comm)
    if contestant.kind == "jax":
        return jax_worker.prepare(contestant, config, steps)
    return torch_worker.prepare(contestant, config, steps, rank, task["meeting"])


if __name__ == "__main__":
    sys.exit(run(main))
