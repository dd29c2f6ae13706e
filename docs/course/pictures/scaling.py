"""How far a measured speed-up of two ranks reaches: both laws from both ends of its interval, up to 64 ranks.

``mpirun -n 2 python -m docs.course.pictures.scaling CONFIG`` measures: strong and weak, against one rank, in rounds.
Rounds in which other programs had a part of the cores do not count, and are made again as long as there is patience.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dist_llm import Config, LanguageModel, connect
from dist_llm.measuring.jobs import choose_launcher
from dist_llm.measuring.machine import CpuUsage
from dist_llm.measuring.plotting import SERIES, Drawing, Label
from dist_llm.measuring.spread import Spread
from dist_llm.parallel.comm import Comm, SerialComm
from dist_llm.parallel.placement import place
from dist_llm.scalability.laws import serial_share, speed_up
from dist_llm.scalability.runs import DISTURBED
from docs.course.pictures._steps import random_step, timed

ROUNDS, WARM_UP, PATIENCE_S = 20, 2, 60.0
MOST = 64


def draw(run: LanguageModel) -> Drawing:
    """Draw the speed-up that each law expects, as the area between the interval's ends."""
    config = json.dumps(asdict(run.config.with_vocabulary(run.model.vocab_size)))
    command = [*choose_launcher().command(2, 1), sys.executable, "-m", __name__, config]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    measured = {mode: Spread.of(values) for mode, values in found.items()}

    def lines(axes: Any) -> Sequence[Label]:
        cores = np.arange(1, MOST + 1)
        axes.plot(cores, cores, color=SERIES[3], linestyle="dotted")
        labels = [Label("ideal", MOST, MOST, SERIES[3])]
        laws = (("Gustafson", "weak"), ("Amdahl", "strong"))
        for (law, mode), color in zip(laws, (SERIES[0], SERIES[1]), strict=True):
            spread = measured[mode]
            ends = [expected(law, end, cores) for end in (spread.interval or (spread.min, spread.max))]
            middle = expected(law, spread.median, cores)
            axes.fill_between(cores, *ends, color=color, alpha=0.25, linewidth=0)
            axes.plot(cores, middle, color=color)
            words = f"{law}, from\n{spread.with_interval(2)}:\n{ends[0][-1]:.0f} to {ends[1][-1]:.0f}"
            labels.append(Label(words, MOST, middle[-1], color, needed=True))
        axes.plot([2], [measured["strong"].median], color=SERIES[1], marker="o")
        axes.set(xlabel="ranks", ylabel="speed-up", xticks=[2, 16, 32, 48, 64], yticks=[1, 16, 32, 48, 64])
        axes.set_xlim(0, MOST * 1.6)
        axes.set_ylim(0, MOST * 1.05)
        axes.grid(visible=True)
        return labels

    words = "Speed-ups of up to 64 ranks that the laws of Amdahl and Gustafson draw from a measured interval at two."
    return Drawing("from two ranks to 64", words, 3.6, lines)


def expected(law: str, measured: float, cores: np.ndarray) -> np.ndarray:
    """Return the speed-ups that follow from one of two cores."""
    share = min(1.0, max(0.0, serial_share(law, [2], [measured])))
    return np.array([speed_up(law, share, n) for n in cores])


def measure(config: Config, comm: Comm) -> dict[str, list[float]]:
    """Return the speed-ups of two ranks, round by round."""
    placement = place(comm, 1)
    batch = config.train.batch_size

    def slowest_s(step: Callable[[], object]) -> float:
        comm.allgather(None)  # all begin together
        return max(comm.allgather(timed(step)))

    alone = random_step(config, batch, SerialComm()) if comm.rank == 0 else lambda: None
    steps = [alone, random_step(config, batch, comm), random_step(config, 2 * batch, comm)]
    rounds: list[tuple[float, list[float]]] = []
    end_s = time.monotonic() + PATIENCE_S
    while sum(others < DISTURBED for others, _ in rounds) < ROUNDS and comm.on_rank_0(lambda: time.monotonic() < end_s):
        usage = CpuUsage(comm, placement)
        times = [slowest_s(step) for step in steps]
        found = usage.disturbance()
        rounds.append((found.other + found.stolen, times))
    calmest = sorted(rounds[WARM_UP:], key=lambda one: one[0])[:ROUNDS]
    one, strong, weak = np.array([times for _, times in calmest]).T
    return {"strong": (one / strong).tolist(), "weak": (2 * one / weak).tolist()}


if __name__ == "__main__":
    ranks = connect()
    answer = measure(Config().replace(json.loads(sys.argv[1])), ranks)
    if ranks.rank == 0:
        print(json.dumps(answer))
