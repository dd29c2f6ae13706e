"""A rank dies, and the other goes on: when each of two ranks was in which step.

``mpirun -n 2 --with-ft ulfm python -m docs.course.pictures.dead_rank CONFIG FOLDER`` measures: rank 1 kills itself, and
each writes what it did to a file, since the dead cannot tell afterwards.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dist_llm import Config, LanguageModel
from dist_llm.errors import RankLostError
from dist_llm.measuring.jobs import choose_launcher
from dist_llm.measuring.plotting import INK, SERIES, TINTS, Drawing, Label
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.parallel.program import run as run_ranks
from docs.course.pictures._steps import random_step

DIES_AT, STEPS, SHOWN = 5, 8, 3  # the step in which it dies, the last one, and the first that is drawn
HEIGHT = 0.5


def draw(run: LanguageModel) -> Drawing:
    """Draw the steps of both ranks along time."""
    config = run.config.with_vocabulary(run.model.vocab_size).replace({"parallel": {"strategy": "deterministic"}})
    with tempfile.TemporaryDirectory() as folder:
        command = [*choose_launcher().words, "--with-ft", "ulfm", "-n", "2", sys.executable, "-m", __name__]
        subprocess.run([*command, json.dumps(asdict(config)), folder], check=False, stdout=subprocess.DEVNULL)
        done = [json.loads(line) for file in sorted(Path(folder).iterdir()) for line in file.read_text().splitlines()]
    start = min(one["begin"] for one in done if one["step"] == SHOWN)

    def bars(axes: Any) -> Sequence[Label]:
        for one in done:
            if one["step"] < SHOWN:
                continue
            begin, long = 1000 * (one["begin"] - start), 1000 * (one["end"] - one["begin"])
            look = {"color": TINTS[0 if one["what"] == "step" else 1], "edgecolor": INK, "linewidth": 0.8}
            axes.barh(-one["rank"], long, HEIGHT, begin, **look)
            axes.text(begin + long / 2, -one["rank"], str(one["step"]), ha="center", va="center", color=INK)
            if one["what"] == "dies":
                place_at = {"xy": (begin + long, -1), "xytext": (12, 0), "textcoords": "offset points"}
                axes.plot([begin + long], [-1], color=SERIES[1], marker="X", markersize=10)
                axes.annotate(f"dies in step {DIES_AT}", color=SERIES[1], va="center", **place_at)
            elif one["what"] == "interrupted":
                words = (
                    f"notices it, and {1000 * one['recovery']:.0f} ms later takes\nthe step again, with the whole batch"
                )
                place_at = {"xy": (begin + long, HEIGHT / 2), "xytext": (0, 8), "textcoords": "offset points"}
                axes.annotate(words, color=SERIES[1], **place_at)
        axes.set(xlabel="milliseconds", yticks=[0, -1], yticklabels=["rank 0", "rank 1"], ylim=(-1.5, 1.05))
        axes.tick_params(axis="y", length=0)
        return []

    words = "Steps of two ranks along time: rank 1 dies in step 5; rank 0 takes it again, alone, and goes on."
    return Drawing("a rank dies", words, 2.4, bars)


def measure(argv: list[str], comm: Comm) -> int:
    """Take steps, in one of which rank 1 dies."""
    place(comm, 1)
    config, path = Config().replace(json.loads(argv[0])), Path(argv[1], f"rank-{comm.rank}.jsonl")
    step = random_step(config, config.train.batch_size, comm)
    rank, begin = comm.rank, time.monotonic()

    def note(what: str, **more: float) -> None:
        number = step.step + (what != "step")
        with path.open("a") as file:
            print(json.dumps({"rank": rank, "step": number, "what": what, "begin": begin} | more), file=file)

    def dying(reduce: Callable[[], None]) -> Callable[[], None]:
        def wrapper() -> None:
            if step.step + 1 == DIES_AT:
                note("dies", end=time.monotonic())
                os.kill(os.getpid(), signal.SIGKILL)
            reduce()

        return wrapper

    if rank == 1:
        step.strategy.reduce = dying(step.strategy.reduce)  # type: ignore[method-assign]
    while step.step < STEPS:
        begin = time.monotonic()
        try:
            step()
            note("step", end=time.monotonic())
        except RankLostError:
            noticed = time.monotonic()
            comm.shrink(True)
            comm.watchdog.left_behind([1])
            step.rejoin()
            end = time.monotonic()
            note("interrupted", end=end, recovery=end - noticed)
    return 0


if __name__ == "__main__":
    sys.exit(run_ranks(measure))
