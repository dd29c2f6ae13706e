"""What networks are worth: the efficiency that the measured step of a model would have on many ranks."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from dist_llm import LanguageModel
from dist_llm.measuring.plotting import INK, SERIES, Drawing, Label
from dist_llm.parallel.comm import SerialComm
from dist_llm.parallel.cost import TYPICAL, CostModel, Network
from dist_llm.parallel.placement import place
from dist_llm.parallel.strategy import Traffic
from dist_llm.parallel.topology import ADD_S_PER_BYTE
from dist_llm.scalability.performance_model import Model, Work
from dist_llm.scalability.projection import RANKS, Cluster
from docs.course.pictures._steps import random_step, timed

BATCHES, STEPS = (2, 8), 7
SEQUENCES = 8  # of each rank


def draw(run: LanguageModel) -> Drawing:
    """Draw the efficiency by ranks, a line for each network."""
    work, n_bytes = measured_work(run), 4 * run.model.params.size

    def lines(axes: Any) -> Sequence[Label]:
        labels = []
        for network, color in zip(reversed(TYPICAL), SERIES, strict=False):
            found = [efficiency(work, n_bytes, network, ranks) for ranks in RANKS]
            axes.plot(RANKS, found, color=color, marker="o", markersize=4)
            words = f"{network.latency_us:g} µs, {network.gbit_s:g} Gbit/s: {100 * found[-1]:.0f} %"
            labels.append(Label(words, RANKS[-1], found[-1], color, needed=True))
        axes.axhline(1, color=INK, linewidth=0.8)
        axes.set_xscale("log", base=2)
        axes.set(xlabel="ranks, each on a computer of its own", ylabel="efficiency", ylim=(0, 1.05))
        axes.set_xticks(RANKS[::3], [f"{ranks:,}" for ranks in RANKS[::3]])
        axes.set_xlim(1.7, RANKS[-1] * 30)
        axes.grid(visible=True)
        return labels

    words = "The efficiency of 2 to 1,024 ranks over networks of 1, 10 and 100 Gbit/s, by the latency-bandwidth model."
    return Drawing("what networks would make of it", words, 3.2, lines)


def efficiency(work: Work, n_bytes: int, network: Network, ranks: int) -> float:
    """Return the weak efficiency with one blocking all-reduce in a ring."""
    cost, traffic = CostModel("ring", 0.0, 0.0, ADD_S_PER_BYTE), Traffic("all-reduce", n_bytes)
    cluster = Cluster(work, Model(cost, cost, []).over(network), lambda _: traffic, 1, network)
    return cluster.weak_efficiency(ranks, SEQUENCES)[0]


def measured_work(run: LanguageModel) -> Work:
    """Return what a step takes on one core: for a sequence, and beyond that."""
    place(SerialComm(), 1)
    config = run.config.with_vocabulary(run.model.vocab_size)
    steps_s = []
    for batch in BATCHES:
        step = random_step(config, batch, SerialComm())
        steps_s.append(median(timed(step) for _ in range(STEPS)))
    sequence_s = (steps_s[1] - steps_s[0]) / (BATCHES[1] - BATCHES[0])
    return Work(sequence_s, max(0.0, steps_s[0] - BATCHES[0] * sequence_s), 2 / 3, BATCHES[0])
