"""The chosen bucket size, against what other sizes cost in a simulated backward pass."""

import itertools

import numpy as np
import pytest

from dist_llm.config import Config, ParallelConfig
from dist_llm.parallel.comm import Comm, SerialComm
from dist_llm.parallel.cost import MEMORY, TYPICAL, Network
from dist_llm.parallel.overlapped import MAX_BUCKETS, bucket_bytes, chosen_bytes
from dist_llm.parallel.registry import STRATEGIES, make_strategy
from dist_llm.parallel.strategy import Strategy
from dist_llm.parallel.topology import Topology

DEFAULT = 4 * 2_312_256  # bytes of the default model's gradient
RANKS = [2, 3, 4, 8, 32, 128, 512, 1024]
PARAMETERS = [10_000, 300_000, 2_312_256, 42_000_000, 1_100_000_000]


def end_s(topology: Topology, n_bytes: int, size: int, window_s: float) -> float:
    """When the last bucket is through, after the beginning of a backward pass that takes so long.

    Gradients become final evenly, from the tail on; buckets go one behind the other.
    """
    ends = np.arange(n_bytes, 0, -size)
    starts = np.maximum(0, ends - size)
    takes_s = np.full(len(ends), topology.all_reduce_s(size))
    takes_s[-1] = topology.all_reduce_s(ends[-1])
    # If a bucket is the last one that need not wait for the one before it, all after it follow without a pause.
    return float(np.max(window_s * (1 - starts / n_bytes) + np.cumsum(takes_s[::-1])[::-1]))


def sizes(n_bytes: int) -> list[int]:
    """Powers of two, up to one bucket for all, of which there are not too many."""
    return [1 << power for power in range(2, n_bytes.bit_length() + 1) if n_bytes >> power < 2048]


@pytest.mark.parametrize("n_parameters", PARAMETERS)
@pytest.mark.parametrize("network", [MEMORY, *TYPICAL], ids=str)
@pytest.mark.parametrize("algorithm", ["ring", "Rabenseifner"])
def test_no_other_size_is_much_better_whatever_the_window(network, algorithm, n_parameters):
    n_bytes, worst = 4 * n_parameters, 0.0
    for ranks, ranks_per_host in itertools.product(RANKS, (1, 2)):
        topology = Topology.even(ranks, ranks if network is MEMORY else ranks_per_host, network, algorithm)
        whole_s, chosen = topology.all_reduce_s(n_bytes), chosen_bytes(topology, n_bytes)
        for window_s in whole_s * np.array([0, 0.1, 0.3, 0.5, 0.8, 1, 1.3, 2, 5, 100]):
            best_s = min(end_s(topology, n_bytes, size, window_s) for size in sizes(n_bytes))
            worst = max(worst, end_s(topology, n_bytes, chosen, window_s) / best_s)
    assert worst < 4 / 3


def test_half_a_megabyte_is_much_worse_at_a_thousand_ranks():
    """What the fixed size of earlier versions would cost, and the issue says: 1.9 s against 0.25 s."""
    topology = Topology(1024, 1024, Network(50, 1))
    assert end_s(topology, DEFAULT, 1 << 19, 0.0) == pytest.approx(2.0, abs=0.1)
    assert end_s(topology, DEFAULT, chosen_bytes(topology, DEFAULT), 0.0) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    ("topology", "messages"),
    [
        (Topology(1, 1, MEMORY), 1),
        (Topology(2, 1, MEMORY), 18),
        (Topology(4, 1, MEMORY), 9),
        (Topology(2, 2, Network(50, 1)), 36),
        (Topology(4, 4, Network(50, 1)), 18),
        (Topology(2, 2, Network(25, 10)), 9),
        (Topology(64, 16, Network(50, 1)), 5),
        (Topology(1024, 1024, Network(50, 1)), 1),
        (Topology(1024, 1024, Network(50, 1), "Rabenseifner"), 9),
    ],
    ids=str,
)
def test_buckets_of_the_default_model(topology, messages):
    traffic = STRATEGIES["overlapped"].load().traffic(Config().parallel, DEFAULT // 4, topology)
    assert (traffic.messages, traffic.message_bytes) == (messages, -(-DEFAULT // messages))


def test_the_choice_is_a_power_of_two_that_leaves_not_too_many():
    for n_parameters in (1, 2, 999, 40_007, *PARAMETERS):
        for ranks in (1, *RANKS):
            topology, n_bytes = Topology(ranks, ranks, TYPICAL[0]), 4 * n_parameters
            chosen = chosen_bytes(topology, n_bytes)
            assert chosen.bit_count() == 1
            assert -(-n_bytes // bucket_bytes(ParallelConfig(), n_bytes, topology)) <= MAX_BUCKETS


def test_a_number_in_the_configuration_is_taken_as_it_is():
    for topology in (Topology(2, 1, MEMORY), Topology(1024, 1024, TYPICAL[0])):
        assert bucket_bytes(ParallelConfig(bucket_bytes=300_000), DEFAULT, topology) == 300_000


def overlapped(comm: Comm, **options: int) -> Strategy:
    grad = np.zeros(DEFAULT // 4, np.float32)
    strategy = make_strategy(comm, grad.copy(), grad, ParallelConfig(**options))
    strategy.close()
    return strategy


def test_buckets_in_words(comm):
    ranks = "1 rank" if comm.size == 1 else f"{comm.size} ranks"
    assert overlapped(comm).buckets.endswith(f", chosen for {ranks} on 1 host (shared memory)")
    assert overlapped(comm, bucket_bytes=1 << 19).buckets == "18 of 512 KiB, as --parallel.bucket_bytes says"
    assert overlapped(comm, bucket_bytes=1 << 30).buckets == "1 of 8.82 MiB, as --parallel.bucket_bytes says"


def test_ranks_that_go_on_without_others_choose_as_if_they_had_begun_so(comm):
    strategy = overlapped(comm)
    together = strategy.buckets
    strategy.rejoin(SerialComm())
    strategy.close()
    assert strategy.buckets == overlapped(SerialComm()).buckets
    assert (strategy.buckets == together) == (comm.size == 1)
    strategy.rejoin(comm)
    strategy.close()
    assert strategy.buckets == together
