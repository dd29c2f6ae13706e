"""What a network would make of it: the measured work of a rank, and the modelled cost of its communication.

A step of a rank with b sequences takes

    b c + f + exposed

where c, a sequence's forward and backward pass, and f, what is the same for any batch (optimizer, clipping), are
measured, and exposed is the part of the communication that the rank waits for. Between two hosts, started all-reduces
go on beside the last micro-batch's backward pass: at best its whole time is hidden, at worst nothing. Inside a host the
communication is work of the very cores that compute, and nothing is hidden.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dist_llm.scalability.cost_model import CostModel
from dist_llm.scalability.traffic import Traffic

RANKS = tuple(1 << power for power in range(1, 11))
PROJECTED = tuple(ranks for ranks in RANKS if ranks >= 16)
EFFICIENT = 0.9


@dataclass(frozen=True)
class Network:
    """What joins the hosts.

    Attributes
    ----------
    latency_us : float
        Microseconds until a small message has arrived, from program to program.
    gbit_s : float
        Gigabits per second of a host's link, in each direction.
    """

    latency_us: float
    gbit_s: float

    def __str__(self) -> str:
        return f"{self.latency_us:g} us, {self.gbit_s:g} Gbit/s"

    def cost_model(self, here: CostModel) -> CostModel:
        """Return the algorithm that was found here, over this network."""
        return CostModel(
            here.algorithm, 1e-6 * self.latency_us, 8e-9 / self.gbit_s, here.add_s_per_byte, here.shares_link
        )


TYPICAL = (Network(50, 1), Network(25, 10), Network(2, 100))


@dataclass(frozen=True)
class Work:
    """What a rank does between meetings.

    Attributes
    ----------
    sequence_s : float
        Forward and backward pass of a sequence.
    fixed_s : float
        What a step takes beyond that, whatever the batch.
    backward_share : float
        Of the backward pass, in `sequence_s`.
    micro_batch_size : int
    """

    sequence_s: float
    fixed_s: float
    backward_share: float
    micro_batch_size: int

    @classmethod
    def of(cls, point: dict[str, Any], micro_batch_size: int) -> "Work":
        """Return the work of a measured point."""
        seconds = point["seconds"]
        sequences = point["batch_size"] / point["ranks"]
        fixed_s = seconds["data"] + seconds["optimizer"] + seconds["other"]
        share = point["backward_s"] / seconds["compute"]
        return cls(seconds["compute"] / sequences, fixed_s, share, micro_batch_size)

    def step_s(self, sequences: int) -> float:
        """Return the time of a step without communication."""
        return sequences * self.sequence_s + self.fixed_s

    def window_s(self, sequences: int) -> float:
        """Return the time of the last backward pass, beside which buckets can go on."""
        return self.backward_share * self.sequence_s * min(sequences, self.micro_batch_size)


def communication_s(traffic: Traffic, cost: CostModel, ranks: int, ranks_per_host: int) -> float:
    """Return the time that a step's operations take, one behind the other; with local steps, the mean over steps."""
    return traffic.messages * cost.seconds(ranks, traffic.message_bytes, ranks_per_host) / traffic.every_steps


def least_exposed_s(traffic: Traffic, total_s: float, window_s: float) -> float:
    """Return what of the communication is waited for at best: what the window does not hold, or the last message."""
    return max(total_s / traffic.messages, total_s - window_s) if traffic.overlaps else total_s


@dataclass(frozen=True)
class Cluster:
    """A measured host, many times.

    Attributes
    ----------
    work : Work
    traffic : Traffic
    host : CostModel
        Of communication inside a host.
    ranks_per_host : int
    """

    work: Work
    traffic: Traffic
    host: CostModel
    ranks_per_host: int

    def exposed_s(self, ranks: int, sequences: int, network: Network) -> tuple[float, float]:
        """Return the least and the most that ranks with so many sequences each wait in a step."""
        if ranks <= self.ranks_per_host:
            alone = communication_s(self.traffic, self.host, ranks, 1)
            return alone, alone
        total = communication_s(self.traffic, network.cost_model(self.host), ranks, self.ranks_per_host)
        return least_exposed_s(self.traffic, total, self.work.window_s(sequences)), total

    def one_message_s(self, ranks: int, network: Network) -> float:
        """Return how long the step's communication would take in one message, with nothing hidden."""
        whole = replace(
            self.traffic, message_bytes=self.traffic.messages * self.traffic.message_bytes, messages=1, overlaps=False
        )
        return replace(self, traffic=whole).exposed_s(ranks, 1, network)[1]

    def weak_efficiency(self, ranks: int, sequences: int, network: Network) -> tuple[float, float]:
        """Return the least and the greatest share of a step in which a rank does not wait, at a batch per rank."""
        least, most = self.exposed_s(ranks, sequences, network)
        alone = self.work.step_s(sequences)
        return alone / (alone + most), alone / (alone + least)

    def strong_efficiency(self, ranks: int, batch_size: int, network: Network) -> tuple[float, float] | None:
        """Return the least and the greatest speed-up over one rank, per rank, at a batch; None if it is too small."""
        if ranks > batch_size:
            return None
        sequences = math.ceil(batch_size / ranks)
        least, most = self.exposed_s(ranks, sequences, network)
        one, alone = self.work.step_s(batch_size), self.work.step_s(sequences)
        return one / (alone + most) / ranks, one / (alone + least) / ranks

    def sequences_for(self, efficiency: float, ranks: int, network: Network) -> int:
        """Return how many sequences per rank bring the weak efficiency there even if nothing is hidden."""
        _, most = self.exposed_s(ranks, 1, network)
        enough_s = most / (1 / efficiency - 1)
        return max(1, math.ceil((enough_s - self.work.fixed_s) / self.work.sequence_s))

    def local_steps_for(self, efficiency: float, ranks: int, sequences: int, network: Network, n_bytes: int) -> int:
        """Return how many local steps between averages of n bytes of parameters do the same for a batch per rank."""
        here = self.host
        exchange = CostModel("ring", here.latency_s, here.s_per_byte, here.add_s_per_byte, shares_link=True)
        if ranks > self.ranks_per_host:
            exchange = network.cost_model(exchange)
        once_s = exchange.seconds(ranks, n_bytes, self.ranks_per_host)
        return max(1, math.ceil(once_s / (self.work.step_s(sequences) * (1 / efficiency - 1))))


def project(
    cluster: Cluster, networks: Sequence[Network], batch_size: int, sequences: int, n_bytes: int
) -> list[dict[str, Any]]:
    """Return, for each network, what to expect of many ranks.

    Parameters
    ----------
    batch_size : int
        Of strong scaling.
    sequences : int
        Per rank, of weak scaling.
    n_bytes : int
        Of the parameters.
    """
    projections = []
    for network in networks:
        weak = {ranks: cluster.weak_efficiency(ranks, sequences, network) for ranks in RANKS}
        rows = []
        for ranks in PROJECTED:
            least, most = cluster.exposed_s(ranks, sequences, network)
            rows.append(
                {
                    "ranks": ranks,
                    "exposed_s": [least, most],
                    "one_message_s": cluster.one_message_s(ranks, network),
                    "weak_efficiency": weak[ranks],
                    "strong_efficiency": cluster.strong_efficiency(ranks, batch_size, network),
                    "sequences_per_rank": cluster.sequences_for(EFFICIENT, ranks, network),
                    "local_steps": cluster.local_steps_for(EFFICIENT, ranks, sequences, network, n_bytes),
                }
            )
        projections.append(
            {
                "network": str(network),
                "latency_us": network.latency_us,
                "gbit_s": network.gbit_s,
                "rows": rows,
                "efficient_up_to": [
                    max((ranks for ranks in RANKS if weak[ranks][bound] >= EFFICIENT), default=1) for bound in (0, 1)
                ],
                "dominated_from": [
                    next((ranks for ranks in RANKS if weak[ranks][bound] < 0.5), None) for bound in (0, 1)
                ],
            }
        )
    return projections
