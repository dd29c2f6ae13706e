import math
from types import SimpleNamespace

import pytest

from dist_llm.config import ParallelConfig
from dist_llm.errors import UserError
from dist_llm.parallel.cost import CostModel, Network
from dist_llm.parallel.registry import STRATEGIES
from dist_llm.parallel.strategy import Traffic
from dist_llm.scalability.performance_model import Work, communication_s, least_exposed_s
from dist_llm.scalability.projection import EFFICIENT, Cluster, parse_network, project

# 50 ms a sequence, two thirds of it backward; 10 ms a step; 1 MB of parameters, the link 1 MB in 10 ms.
WORK = Work(sequence_s=0.05, fixed_s=0.01, backward_share=2 / 3, micro_batch_size=3)
BLOCKING = Traffic("all-reduce", 1_000_000)
BUCKETS = Traffic("nonblocking all-reduce", 100_000, messages=10, overlaps=True)
HERE = CostModel("ring", 1e-6, 1e-10, 0.0)
NETWORK = Network(latency_us=100, gbit_s=0.8)


def cluster(traffic=BLOCKING, ranks_per_host=1) -> Cluster:
    return Cluster(WORK, lambda _: traffic, HERE, ranks_per_host)


def test_work_of_a_measured_point():
    seconds = {"compute": 0.4, "communication": 9, "imbalance": 9, "data": 0.001, "optimizer": 0.006, "other": 0.003}
    point = SimpleNamespace(seconds=seconds, batch_size=16, ranks=2, backward_s=0.3)
    work = Work.of(point, micro_batch_size=2)
    assert work.sequence_s == pytest.approx(0.05)
    assert work.fixed_s == pytest.approx(0.01)
    assert work.backward_share == pytest.approx(0.75)
    assert work.step_s(4) == pytest.approx(0.21)
    assert work.window_s(4) == pytest.approx(0.075)
    assert work.window_s(1) == pytest.approx(0.0375)


def test_communication_by_hand():
    # Ring of 4 over the network: 6 latencies of 100 us, and 1.5 times 1 MB at 10 ns a byte.
    assert cluster().exposed_s(4, 2, NETWORK) == pytest.approx((0.0156, 0.0156))
    # In ten buckets, ten times the latency; of these 21 ms, a backward pass of 33 or more hides all but one bucket.
    assert cluster(BUCKETS).exposed_s(4, 1, NETWORK) == pytest.approx((0.0021, 0.021))
    assert communication_s(BUCKETS, NETWORK.cost_model(HERE), 4, 1) == pytest.approx(0.021)
    assert cluster(BUCKETS).one_message_s(4, NETWORK) == pytest.approx(0.0156)


def test_a_window_that_is_too_short_hides_as_much_as_it_has():
    assert least_exposed_s(BUCKETS, 0.1, 0.03) == pytest.approx(0.07)
    assert least_exposed_s(BUCKETS, 0.1, 0.2) == pytest.approx(0.01)
    assert least_exposed_s(BLOCKING, 0.1, 0.2) == pytest.approx(0.1)


def test_inside_a_host_its_own_constants_count():
    least, most = cluster(BUCKETS, ranks_per_host=4).exposed_s(4, 1, NETWORK)
    assert least == most == pytest.approx(10 * (6e-6 + 1.5e5 * 1e-10))


@pytest.mark.parametrize("bucket_bytes", [None, 1 << 19])
def test_ranks_send_the_buckets_that_they_would_choose(bucket_bytes):
    config, of = ParallelConfig(bucket_bytes=bucket_bytes), STRATEGIES["overlapped"].load().traffic
    chosen = Cluster(WORK, lambda topology: of(config, 2_312_256, topology), HERE, ranks_per_host=2)
    (made,) = project(chosen, [Network(50, 1)], batch_size=16, sequences=2, n_bytes=4 * 2_312_256)
    assert [row.messages for row in made.rows] == ([9, 9, 5, 3, 2, 2, 1] if bucket_bytes is None else [18] * 7)
    # 1,024 ranks with nothing hidden: 18 latencies of 0.1 s and 0.15 s for the bytes, or one latency.
    assert made.rows[-1].exposed_s[1] == pytest.approx(0.25 if bucket_bytes is None else 1.99, abs=0.01)


def test_local_steps_send_now_and_then():
    local = Traffic("all-to-all, all-gather", 1_000_000, every_steps=10)
    assert cluster(local).exposed_s(4, 1, NETWORK)[1] == pytest.approx(0.00156)


def test_efficiencies():
    assert cluster().weak_efficiency(4, 2, NETWORK)[0] == pytest.approx(0.11 / (0.11 + 0.0156))
    # 8 sequences take 410 ms on one rank, and 2 of them 110 on each of four.
    assert cluster().strong_efficiency(4, 8, NETWORK)[0] == pytest.approx(0.41 / (0.11 + 0.0156) / 4)
    assert cluster().strong_efficiency(4, 7, NETWORK)[0] == pytest.approx(0.36 / (0.11 + 0.0156) / 4)  # the slowest: 2
    assert cluster().strong_efficiency(8, 7, NETWORK) is None


@pytest.mark.parametrize("ranks", [16, 1024])
@pytest.mark.parametrize("traffic", [BLOCKING, BUCKETS])
def test_what_restores_the_efficiency_does_and_one_less_does_not(ranks, traffic):
    c = cluster(traffic)
    enough = c.sequences_for(EFFICIENT, ranks, NETWORK)
    assert c.weak_efficiency(ranks, enough, NETWORK)[0] >= EFFICIENT
    assert enough == 1 or c.weak_efficiency(ranks, enough - 1, NETWORK)[0] < EFFICIENT
    steps = c.local_steps_for(EFFICIENT, ranks, 1, NETWORK, n_bytes=1_000_000)

    def efficiency(h: int) -> float:
        exchange = CostModel("ring", 1e-4, 1e-8, 0.0).seconds(ranks, 1_000_000)
        return WORK.step_s(1) / (WORK.step_s(1) + exchange / h)

    assert efficiency(steps) >= EFFICIENT
    assert steps == 1 or efficiency(steps - 1) < EFFICIENT


def test_projection_says_where_it_ends():
    (slow, fast) = project(cluster(), [NETWORK, Network(0.1, 1000)], batch_size=16, sequences=2, n_bytes=1_000_000)
    assert [row.ranks for row in slow.rows] == [16, 32, 64, 128, 256, 512, 1024]
    assert (slow.network, slow.latency_us, slow.gbit_s) == ("100 us, 0.8 Gbit/s", 100, 0.8)
    # Efficient while waiting is at most a ninth of 110 ms, dominated when it is more than 110 ms: a ring of p waits
    # 0.2 (p - 1) + 20 (p - 1) / p ms.
    assert slow.efficient_up_to == [2, 2]
    assert slow.dominated_from == [512, 512]
    assert fast.efficient_up_to == [1024, 1024]
    assert fast.dominated_from == [None, None]
    assert slow.rows[0].strong_efficiency is not None
    assert slow.rows[1].strong_efficiency is None
    assert math.isclose(slow.rows[0].exposed_s[0], 0.2e-3 * 15 + 20e-3 * 15 / 16)


@pytest.mark.parametrize("text", ["fast", "25", "25,0", "-1,10", "25,10,1", "nan,1", "1,inf", ""])
def test_what_is_no_network(text):
    assert parse_network("25,10") == Network(25, 10)
    with pytest.raises(UserError, match="--network takes a latency in us and a rate in Gbit/s, such as 25,10, not "):
        parse_network(text)
