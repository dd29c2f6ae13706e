"""What a network would make of it: the measured work of a rank, and the modelled cost of its communication.

A step of a rank with b sequences takes

    b c + f + exposed

where c, a sequence's forward and backward pass, and f, what is the same for any batch (optimizer, clipping), are
measured, and exposed is by how much communication makes a step longer. Between two hosts, started all-reduces go on
beside the last micro-batch's backward pass; how much that hides is simulated where it could be measured and the model
foretold the measured steps (see `overlap`), and else lies between its whole time and nothing. Inside a host the
communication is work of the very cores that compute, and nothing is hidden.

Isoefficiency (Grama, Gupta and Kumar 1993, IEEE Parallel & Distributed Technology 1(3)): more ranks stay as efficient
if the work grows with them. How fast it must grow says how scalable a system is. Here the work is the batch B:

    E(p, B) = (B c + f) / (p (B / p c + f + exposed))

of which the least B is given that keeps E.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from dist_llm.errors import UserError
from dist_llm.parallel.cost import Network
from dist_llm.parallel.strategy import Traffic
from dist_llm.parallel.topology import Topology
from dist_llm.scalability.performance_model import Model, Range, Work

RANKS = tuple(1 << power for power in range(1, 11))
PROJECTED = tuple(ranks for ranks in RANKS if ranks >= 16)
EFFICIENT = 0.9
KEPT_EFFICIENCY = 0.8


def parse_network(text: str) -> Network:
    """Turn ``25,10`` (microseconds, Gbit/s) into a network; raise `UserError` if it is something else."""
    with contextlib.suppress(ValueError):
        latency_us, gbit_s = map(float, text.split(","))
        if 0 <= latency_us < math.inf and 0 < gbit_s < math.inf:
            return Network(latency_us, gbit_s)
    raise UserError(f"--network takes a latency in us and a rate in Gbit/s, such as 25,10, not {text!r}")


@dataclass(frozen=True)
class Cluster:
    """A measured host, many times, joined by a network."""

    work: Work
    model: Model  # over that network
    traffic: Callable[[Topology], Traffic]  # of a step
    ranks_per_host: int
    network: Network

    def traffic_of(self, ranks: int) -> Traffic:
        """Return what so many ranks send in a step."""
        topology = Topology.even(ranks, self.ranks_per_host, self.network, self.model.between.algorithm)
        return self.traffic(topology)

    def exposed_s(self, ranks: int, sequences: int) -> Range:
        """Return by how much communication makes the step longer of ranks with so many sequences each."""
        window_s = self.work.window_s(sequences)
        return self.model.exposed_s(self.traffic_of(ranks), ranks, self.ranks_per_host, window_s)

    def one_message_s(self, ranks: int) -> float:
        """Return how long the step's communication would take in one message, with nothing hidden."""
        traffic = self.traffic_of(ranks)
        whole = replace(traffic, message_bytes=traffic.messages * traffic.message_bytes, messages=1)
        return self.model.total_s(whole, ranks, self.ranks_per_host)

    def weak_efficiency(self, ranks: int, sequences: int) -> Range:
        """Return the least and the greatest share of a step that communication leaves, at a batch per rank."""
        least, most = self.exposed_s(ranks, sequences)
        alone = self.work.step_s(sequences)
        return alone / (alone + most), alone / (alone + least)

    def strong_efficiency(self, ranks: int, batch_size: int) -> Range | None:
        """Return the least and the greatest speed-up over one rank, per rank, at a batch; None if it is too small."""
        if ranks > batch_size:
            return None
        sequences = math.ceil(batch_size / ranks)
        divided = self.work.step_s(batch_size) / self.work.step_s(sequences) / ranks
        least, most = self.weak_efficiency(ranks, sequences)
        return divided * least, divided * most

    def batch_for(self, efficiency: float, ranks: int) -> int:
        """Return the least batch that keeps the efficiency, as much of a range as there is: the isoefficiency."""
        c, f = self.work.sequence_s, self.work.fixed_s
        # From a whole micro-batch on, more sequences hide no more: E is then solved for B / p.
        whole = self.work.micro_batch_size
        _, exposed_s = self.exposed_s(ranks, whole)
        enough = math.ceil((efficiency * (f + exposed_s) - f / ranks) / ((1 - efficiency) * c))
        fewer = (n for n in range(1, whole) if (of := self.strong_efficiency(ranks, n * ranks)) and of[0] >= efficiency)
        return ranks * next(fewer, max(whole, enough))

    def local_steps_for(self, efficiency: float, ranks: int, sequences: int, n_bytes: int) -> int:
        """Return how many local steps between averages of n bytes of parameters keep it for a batch per rank."""
        inside = ranks <= self.ranks_per_host
        cost = replace(self.model.inside if inside else self.model.between, algorithm="ring", shares_link=True)
        once_s = cost.seconds(ranks, n_bytes, self.ranks_per_host)
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
    batch_size: int  # that keeps the efficiency
    local_steps: int  # likewise


@dataclass(frozen=True)
class Projection:
    """What to expect of a network."""

    network: str
    latency_us: float
    gbit_s: float
    rows: list[Projected]
    efficient_up_to: list[int]  # ranks, in weak scaling: with nothing hidden, and with all that can be
    dominated_from: list[int | None]  # likewise, from where on waiting is more than half of a step; None: nowhere


def project(cluster: Cluster, batch_size: int, sequences: int, n_bytes: int) -> Projection:
    """Return what to expect of a cluster, at a batch size (strong) and sequences per rank (weak)."""
    weak = {ranks: cluster.weak_efficiency(ranks, sequences) for ranks in RANKS}
    rows = [
        Projected(
            n, cluster.traffic_of(n).messages, cluster.exposed_s(n, sequences), cluster.one_message_s(n), weak[n],
            cluster.strong_efficiency(n, batch_size), cluster.batch_for(KEPT_EFFICIENCY, n),
            cluster.local_steps_for(KEPT_EFFICIENCY, n, sequences, n_bytes),
        )
        for n in PROJECTED
    ]  # fmt: skip
    up_to = [max((r for r in RANKS if weak[r][bound] >= EFFICIENT), default=1) for bound in (0, 1)]
    dominated = [next((r for r in RANKS if weak[r][bound] < 0.5), None) for bound in (0, 1)]
    network = cluster.network
    return Projection(str(network), network.latency_us, network.gbit_s, rows, up_to, dominated)
