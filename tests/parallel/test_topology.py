from pathlib import Path

import pytest

from dist_llm.parallel import hosts
from dist_llm.parallel.cost import ETHERNET, FAST_ETHERNET, INFINIBAND, MEMORY, Network
from dist_llm.parallel.topology import ADD_S_PER_BYTE, ASSUMED, Topology, fastest_link

NET, RDMA = "sys/class/net", "sys/class/infiniband"


def interface(root: Path, name: str, speed: str, state: str = "up", **more: str) -> Path:
    """Add an interface to a fake system: with files, or folders where their content is empty."""
    folder = root / NET / name
    folder.mkdir(parents=True)
    for file, text in {"operstate": state, "type": "1", "speed": speed, **more}.items():
        (folder / file).write_text(text + "\n") if text else (folder / file).mkdir()
    return root


def adapter(root: Path, name: str, rate: str, state: str = "4: ACTIVE", link_layer: str = "InfiniBand") -> Path:
    folder = root / RDMA / name / "ports/1"
    folder.mkdir(parents=True)
    for file, text in {"rate": rate, "state": state, "link_layer": link_layer}.items():
        (folder / file).write_text(text + "\n")
    return root


def test_the_fastest_link_that_is_up(tmp_path):
    interface(tmp_path, "eth0", "1000", device="")
    assert fastest_link(tmp_path) == Network(ETHERNET.latency_us, 1.0, "1 Gbit/s Ethernet")
    interface(tmp_path, "eth1", "25000", device="")
    assert fastest_link(tmp_path) == Network(FAST_ETHERNET.latency_us, 25.0, "25 Gbit/s Ethernet")
    interface(tmp_path, "eth2", "100000", "down", device="")
    adapter(tmp_path, "mlx5_1", "200 Gb/sec (4X HDR)", "1: DOWN")
    assert fastest_link(tmp_path).gbit_s == 25
    adapter(tmp_path, "mlx5_0", "100 Gb/sec (4X EDR)")
    assert fastest_link(tmp_path) == Network(INFINIBAND.latency_us, 100.0, "100 Gbit/s InfiniBand, RDMA")


def test_what_joins_no_hosts_does_not_count(tmp_path):
    interface(tmp_path, "lo", "100000", type="772")
    interface(tmp_path, "docker0", "100000", bridge="")
    (tmp_path / NET / "bonding_masters").write_text("")  # a file among the folders
    assert fastest_link(tmp_path) == ASSUMED
    interface(tmp_path, "veth7", "10000")  # all that a container has
    assert fastest_link(tmp_path).gbit_s == 10
    interface(tmp_path, "eno1", "2500", device="")  # but where there is hardware, it joins this host and a container
    assert fastest_link(tmp_path) == Network(ETHERNET.latency_us, 2.5, "2.5 Gbit/s Ethernet")


@pytest.mark.parametrize("speed", ["-1", "", "0", "unknown"])
def test_a_rate_that_the_driver_does_not_know_is_assumed(tmp_path, speed):
    interface(tmp_path, "eth0", speed, device="")
    assert fastest_link(tmp_path) == ASSUMED
    assert (ASSUMED.latency_us, ASSUMED.gbit_s) == (25, 10)
    adapter(tmp_path, "mlx5_0", speed)
    assert fastest_link(tmp_path) == ASSUMED


def test_a_system_that_tells_nothing(tmp_path):
    assert fastest_link(tmp_path) == ASSUMED


@pytest.mark.parametrize("ranks_per_host", [1, 2])
def test_all_ranks_find_the_same_and_the_slowest_host_counts(comm, tmp_path, monkeypatch, ranks_per_host):
    interface(tmp_path, "eth0", "100000" if comm.rank < ranks_per_host else "1000", device="")
    one_host = Topology.of(comm, tmp_path)
    assert (one_host.ranks, one_host.hosts, one_host.network) == (comm.size, 1, MEMORY)
    monkeypatch.setattr(hosts.platform, "node", lambda: f"host-{comm.rank // ranks_per_host}")
    found = Topology.of(comm, tmp_path)
    assert comm.allgather(found) == [found] * comm.size
    n_hosts = -(-comm.size // ranks_per_host)
    assert (found.ranks, found.hosts) == (comm.size, n_hosts)
    assert str(found.network) == ("1 Gbit/s Ethernet" if n_hosts > 1 else "shared memory")
    assert found.algorithm == ("ring" if comm.mpi_version.startswith("Open MPI") else "Rabenseifner")
    assert found == Topology.even(comm.size, ranks_per_host, found.network, found.algorithm)


def test_an_all_reduce_by_hand():
    # A ring of 4 over 10 Gbit/s: 6 latencies, and 1.5 MB of 1 MB sent and 0.75 MB added by each.
    ring = Topology.even(4, 2, FAST_ETHERNET, "ring")
    assert ring.all_reduce_s(1e6) == pytest.approx(6 * 25e-6 + 1.5e6 * 8e-10 + 0.75e6 * ADD_S_PER_BYTE)
    # By Rabenseifner's algorithm 4 latencies, and both ranks of a host send at once.
    other = Topology.even(4, 2, FAST_ETHERNET, "Rabenseifner")
    assert other.all_reduce_s(1e6) == pytest.approx(4 * 25e-6 + 3e6 * 8e-10 + 0.75e6 * ADD_S_PER_BYTE)
    # In the memory of one host they do not share a link.
    assert Topology.even(4, 4, FAST_ETHERNET, "Rabenseifner").all_reduce_s(1e6) == pytest.approx(
        4 * 5e-6 + 1.5e6 * 2e-10 + 0.75e6 * ADD_S_PER_BYTE
    )
    assert Topology(1, 1, MEMORY).all_reduce_s(1e6) == 0


def test_topologies_in_words():
    assert str(Topology(1, 1, MEMORY)) == "1 rank on 1 host (shared memory)"
    assert str(Topology(8, 2, ETHERNET)) == "8 ranks on 2 hosts (50 us, 1 Gbit/s)"
