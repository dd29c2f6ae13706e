"""Where the ranks of a job run: on how many hosts, and over which network.

Of a network, the Linux kernel tells the rate of each link, and of which kind it is; the latency is what is typical of
that kind. Nothing is timed, so two jobs on the same machines find the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dist_llm.parallel.comm import Comm
from dist_llm.parallel.cores import ROOT
from dist_llm.parallel.cost import ETHERNET, FAST_ETHERNET, INFINIBAND, MEMORY, CostModel, Network
from dist_llm.parallel.hosts import first_of_host

ADD_S_PER_BYTE = 5e-11  # to add arrays beyond the cache: 4e-11 to 9e-11 measured
LOOPBACK = "772"
ASSUMED = Network(FAST_ETHERNET.latency_us, FAST_ETHERNET.gbit_s, "network of unknown rate, taken for 10 Gbit/s")


@dataclass(frozen=True)
class Topology:
    """The ranks of a job, and what joins them.

    Attributes
    ----------
    ranks, hosts : int
    network : Network
        Between the hosts; on one host, its memory.
    algorithm : str
        By which MPI sums up without blocking; one of `cost.ALGORITHMS`.
    """

    ranks: int
    hosts: int
    network: Network
    algorithm: str = "ring"

    @classmethod
    def of(cls, comm: Comm, root: Path = ROOT) -> "Topology":
        """Find the topology of a job, on all ranks alike; collective.

        Between several hosts the slowest one's link counts.

        Parameters
        ----------
        comm : Comm
        root : Path
            Folder that holds ``sys``.
        """
        hosts, network = len(set(first_of_host(comm))), MEMORY
        if hosts > 1:
            network = min(comm.allgather(fastest_link(root)), key=lambda link: link.gbit_s)
        # Which one dist_llm has Open MPI use, and the one that MPICH takes for more than some kilobytes.
        algorithm = "ring" if comm.mpi_version.startswith("Open MPI") else "Rabenseifner"
        return cls(comm.size, hosts, network, algorithm)

    @classmethod
    def even(cls, ranks: int, ranks_per_host: int, network: Network, algorithm: str) -> "Topology":
        """Return the topology of ranks on hosts with so many each, the last one with the rest."""
        hosts = -(-ranks // ranks_per_host)
        return cls(ranks, hosts, network if hosts > 1 else MEMORY, algorithm)

    def __str__(self) -> str:
        ranks, hosts = f"{self.ranks} rank{'s' * (self.ranks != 1)}", f"{self.hosts} host{'s' * (self.hosts != 1)}"
        return f"{ranks} on {hosts} ({self.network})"

    def all_reduce_s(self, n_bytes: float) -> float:
        """Return about how long an all-reduce takes."""
        form = CostModel(self.algorithm, 0.0, 0.0, ADD_S_PER_BYTE, shares_link=self.algorithm != "ring")
        sharing = -(-self.ranks // self.hosts) if self.hosts > 1 else 1  # memory is no link that ranks share
        return self.network.cost_model(form).seconds(self.ranks, n_bytes, sharing)


def fastest_link(root: Path = ROOT) -> Network:
    """Return the fastest link of this host that is up; `ASSUMED` where the system does not tell.

    See the kernel's ``sysfs-class-net`` and ``sysfs-class-infiniband``.

    Parameters
    ----------
    root : Path
        Folder that holds ``sys``.
    """
    links = [*_infiniband(root / "sys/class/infiniband"), *_ethernet(root / "sys/class/net")]
    return max(links, key=lambda link: link.gbit_s, default=ASSUMED)


def _infiniband(folder: Path) -> Iterator[Network]:
    """Return the links of adapters that read and write remote memory: InfiniBand and its like."""
    for port in folder.glob("*/ports/*"):
        if _text(port / "state").endswith("ACTIVE"):  # "4: ACTIVE"
            gbit_s = _number(_text(port / "rate").partition(" ")[0])  # "100 Gb/sec (4X EDR)"
            if gbit_s > 0:
                name = f"{gbit_s:g} Gbit/s {_text(port / 'link_layer')}, RDMA"
                yield Network(INFINIBAND.latency_us, gbit_s, name)


def _ethernet(folder: Path) -> Iterator[Network]:
    """Return the links of network interfaces: those that are hardware, or in a container, without any, the others."""
    links = [link for link in folder.glob("*") if _text(link / "operstate") == "up" and _joins_hosts(link)]
    for link in [link for link in links if (link / "device").exists()] or links:
        gbit_s = _number(_text(link / "speed")) / 1000
        if gbit_s > 0:
            like = FAST_ETHERNET if gbit_s >= FAST_ETHERNET.gbit_s else ETHERNET
            yield Network(like.latency_us, gbit_s, f"{gbit_s:g} Gbit/s Ethernet")
        else:
            yield ASSUMED


def _joins_hosts(link: Path) -> bool:
    return _text(link / "type") != LOOPBACK and not (link / "bridge").exists()


def _number(text: str) -> float:
    """Return the number that a text is, or 0."""
    return float(text) if text.replace(".", "", 1).isdecimal() else 0.0


def _text(file: Path) -> str:
    """Return what stands in a file; "" if it cannot be read, as the rate of some links."""
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
