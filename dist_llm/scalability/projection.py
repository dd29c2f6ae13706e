"""What a network would make of it: the measured work of a rank, and the modelled cost of its communication.

A step of a rank with b sequences takes

    b c + f + exposed

where c, a sequence's forward and backward pass, and f, what is the same for any batch (optimizer, clipping), are
measured, and exposed is the part of the communication that the rank waits for. Between two hosts, started all-reduces
go on beside the last micro-batch's backward pass: at best its whole time is hidden, at worst nothing. Inside a host the
communication is work of the very cores that compute, and nothing is hidden.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dist_llm.errors import UserError
from dist_llm.parallel.cost import CostModel, Network
from dist_llm.parallel.strategy import Traffic
from dist_llm.parallel.topology import Topology
from dist_llm.scalability.performance_model import Work, communication_s, least_exposed_s

RANKS = tuple(1 << power for power in range(1, 11))
PROJECTED = tuple(ranks for ranks in RANKS if ranks >= 16)
EFFICIENT = 0.9

Range = tuple[float, float]  # with all that can be hidden, and with nothing hidden, the lesser figure first


def parse_network(text: str) -> Network:
    """Turn ``25,10`` (microseconds, Gbit/s) into a network; raise `UserError` if it is something else."""
    with contextlib.suppress(ValueError):
        latency_us, gbit_s = map(float, text.split(","))
        if 0 <= latency_us < math.inf and 0 < gbit_s < math.inf:
            return Network(latency_us, gbit_s)
    raise UserError(f"--network takes a latency in us and a rate in Gbit/s, such as 25,10, not {text!r}")


@dataclass(frozen=True)
class Cluster:
    """A measured host, many times."""

    work: Work
    traffic: Callable[[Topology], Traffic]  # of a step
    host: CostModel  # of communication inside a host
    ranks_per_host: int

    def traffic_of(self, ranks: int, network: Network) -> Traffic:
        """Return what so many ranks send in a step."""
        return self.traffic(Topology.even(ranks, self.ranks_per_host, network, self.host.algorithm))

    def exposed_s(self, ranks: int, sequences: int, network: Network) -> Range:
        """Return the least and the most that ranks with so many sequences each wait in a step."""
        traffic = self.traffic_of(ranks, network)
        if ranks <= self.ranks_per_host:
            alone = communication_s(traffic, self.host, ranks, 1)
            return alone, alone
        total = communication_s(traffic, network.cost_model(self.host), ranks, self.ranks_per_host)
        return least_exposed_s(traffic, total, self.work.window_s(sequences)), total

    def one_message_s(self, ranks: int, network: Network) -> float:
        """Return how long the step's communication would take in one message, with nothing hidden."""
        traffic = self.traffic_of(ranks, network)
        size = traffic.messages * traffic.message_bytes
        whole = replace(traffic, message_bytes=size, messages=1, overlaps=False)
        return replace(self, traffic=lambda _: whole).exposed_s(ranks, 1, network)[1]

    def weak_efficiency(self, ranks: int, sequences: int, network: Network) -> Range:
        """Return the least and the greatest share of a step in which a rank does not wait, at a batch per rank."""
        least, most = self.exposed_s(ranks, sequences, network)
        alone = self.work.step_s(sequences)
        return alone / (alone + most), alone / (alone + least)

    def strong_efficiency(self, ranks: int, batch_size: int, network: Network) -> Range | None:
        """Return the least and the greatest speed-up over one rank, per rank, at a batch; None if it is too small."""
        if ranks > batch_size:
            return None
        sequences = math.ceil(batch_size / ranks)
        divided = self.work.step_s(batch_size) / self.work.step_s(sequences) / ranks
        least, most = self.weak_efficiency(ranks, sequences, network)
        return divided * least, divided * most

    def sequences_for(self, efficiency: float, ranks: int, network: Network) -> int:
        """Return how many sequences per rank bring the weak efficiency there even if nothing is hidden."""
        _, most = self.exposed_s(ranks, 1, network)
        enough_s = most / (1 / efficiency - 1)
        return max(1, math.ceil((enough_s - self.work.fixed_s) / self.work.sequence_s))

    def local_steps_for(self, efficiency: float, ranks: int, sequences: int, network: Network, n_bytes: int) -> int:
        """Return how many local steps between averages of n bytes of parameters do the same for a batch per rank."""
        exchange = replace(self.host, algorithm="ring", shares_link=True)
        if ranks > self.ranks_per_host:
            exchange = network.cost_model(exchange)
        once_s = exchange.seconds(ranks, n_bytes, self.ranks_per_host)
        return max(1, math.ceil(once_s / (self.work.step_s(sequences) * (1 / efficiency - 1))))


@dataclass(frozen=True)
class Projected:
    """What to expect of a number of ranks."""

    ranks: int
    messages: int  # in a step
    exposed_s: Range
    one_message_s: float
    weak_efficiency: Range
    strong_efficiency: Range | None
    sequences_per_rank: int
    local_steps: int


@dataclass(frozen=True)
class Projection:
    """What to expect of a network."""

    network: str
    latency_us: float
    gbit_s: float
    rows: list[Projected]
    efficient_up_to: list[int]  # ranks, in weak scaling: with nothing hidden, and with all that can be
    dominated_from: list[int | None]  # likewise, from where on waiting is more than half of a step; None: nowhere


def project(
    cluster: Cluster, networks: Sequence[Network], batch_size: int, sequences: int, n_bytes: int
) -> list[Projection]:
    """Return what to expect of each network, at a batch size (strong) and sequences per rank (weak)."""
    projections = []
    for network in networks:
        weak = {ranks: cluster.weak_efficiency(ranks, sequences, network) for ranks in RANKS}
        rows = [
            Projected(
                n, cluster.traffic_of(n, network).messages, cluster.exposed_s(n, sequences, network),
                cluster.one_message_s(n, network), weak[n],
                cluster.strong_efficiency(n, batch_size, network), cluster.sequences_for(EFFICIENT, n, network),
                cluster.local_steps_for(EFFICIENT, n, sequences, network, n_bytes),
            )
            for n in PROJECTED
        ]  # fmt: skip
        up_to = [max((r for r in RANKS if weak[r][bound] >= EFFICIENT), default=1) for bound in (0, 1)]
        dominated = [next((r for r in RANKS if weak[r][bound] < 0.5), None) for bound in (0, 1)]
        projections.append(Projection(str(network), network.latency_us, network.gbit_s, rows, up_to, dominated))
    return projections
