"""What an all-reduce costs, and typical networks for it.

Thakur, Rabenseifner and Gropp (2005), Int. J. High Perf. Comp. Appl. 19(1). For n bytes on p ranks, with a seconds for
a message to arrive, b seconds for each byte of it and g seconds for the addition of a byte:

    ring                 2 (p - 1) a    + 2 (p - 1) / p n b + (p - 1) / p n g
    Rabenseifner         2 log2(p) a    + 2 (p - 1) / p n b + (p - 1) / p n g
    recursive doubling   log2(p) a      + log2(p) n b       + log2(p) n g

A reduce-scatter followed by an all-gather is what the first two are made of; an all-to-all followed by one costs the
same as the ring, and the all-gather alone half of it, without the additions. In a ring the ranks of a host stand side
by side, and one of them sends to the next host at a time; in the other two, and in an all-to-all, all ranks of a host
send to other hosts at once, and share its link.
"""

import math
from dataclasses import dataclass, replace

ALGORITHMS = ("ring", "Rabenseifner", "recursive doubling")


@dataclass(frozen=True)
class CostModel:
    """An algorithm and its constants: a, b and g."""

    algorithm: str
    latency_s: float
    s_per_byte: float
    add_s_per_byte: float
    shares_link: bool = False  # whether the ranks of a host send to others at the same time

    def seconds(self, ranks: int, n_bytes: float, ranks_per_host: int = 1) -> float:
        """Return how long one operation takes."""
        latency, per_byte, add = coefficients(self.algorithm, ranks, n_bytes)
        flows = min(ranks_per_host, ranks) if self.shares_link else 1
        return latency * self.latency_s + per_byte * flows * self.s_per_byte + add * self.add_s_per_byte

    def gather_seconds(self, ranks: int, n_bytes: float) -> float:
        """Return how long an all-gather in a ring takes, of so many bytes in the end."""
        return CostModel("ring", self.latency_s, self.s_per_byte, 0.0).seconds(ranks, n_bytes) / 2


@dataclass(frozen=True)
class Network:
    """What joins the hosts, or the ranks of one."""

    latency_us: float  # until a small message has arrived, from program to program
    gbit_s: float  # of a host's link, in each direction
    name: str = ""

    def __str__(self) -> str:
        return self.name or f"{self.latency_us:g} us, {self.gbit_s:g} Gbit/s"

    def cost_model(self, here: CostModel) -> CostModel:
        """Return the algorithm that was found here, over this network."""
        return replace(here, latency_s=1e-6 * self.latency_us, s_per_byte=8e-9 / self.gbit_s)


ETHERNET, FAST_ETHERNET, INFINIBAND = TYPICAL = Network(50, 1), Network(25, 10), Network(2, 100)
# Nonblocking all-reduces of Open MPI between the ranks of a host: 64 kB to 9 MB, of 2 ranks, within 20 %.
MEMORY = Network(5, 40, "shared memory")


def coefficients(algorithm: str, ranks: int, n_bytes: float) -> tuple[float, float, float]:
    """Return what latency, time per byte and time per added byte are multiplied with."""
    steps, share = math.ceil(math.log2(ranks)), (ranks - 1) / ranks
    if algorithm == "recursive doubling":
        return steps, steps * n_bytes, steps * n_bytes
    return 2 * (ranks - 1) if algorithm == "ring" else 2 * steps, 2 * share * n_bytes, share * n_bytes
