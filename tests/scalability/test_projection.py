import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from dist_llm.config import ParallelConfig
from dist_llm.errors import UserError
from dist_llm.parallel.cost import CostModel, Network
from dist_llm.parallel.registry import STRATEGIES
from dist_llm.parallel.strategy import Traffic
from dist_llm.scalability.overlap import Overlap
from dist_llm.scalability.performance_model import Model, Work
from dist_llm.scalability.projection import KEPT_EFFICIENCY, Cluster, parse_network, project

# 50 ms a sequence, two thirds of it backward; 10 ms a step; 1 MB of parameters, the link 1 MB in 10 ms.
WORK = Work(sequence_s=0.05, fixed_s=0.01, backward_share=2 / 3, micro_batch_size=3)
BLOCKING = Traffic("all-reduce", 1_000_000)
BUCKETS = Traffic("nonblocking all-reduce", 100_000, messages=10, overlaps=True)
HERE = CostModel("ring", 1e-6, 1e-10, 0.0)
NETWORK = Network(latency_us=100, gbit_s=0.8)
# Gradients become final evenly; reductions go on at half their speed, and 1 MB takes 1 ms of computation.
OVERLAP = Overlap(2, [(n / 10, n / 10) for n in range(1, 11)], 0.5, 1e-9)


def cluster(traffic=BLOCKING, ranks_per_host=1, overlaps=(), network=NETWORK) -> Cluster:
    return Cluster(WORK, Model(HERE, HERE, list(overlaps)).over(network), lambda _: traffic, ranks_per_host, network)


def test_work_of_a_measured_point():
    seconds = {
        "compute": 0.4,
        "communication": 9,
        "imbalance": 0.002,
        "data": 0.001,
        "optimizer": 0.006,
        "other": 0.001,
    }
    point = SimpleNamespace(seconds=seconds, batch_size=16, ranks=2, hosts=2, backward_s=0.3, traffic=BUCKETS)
    work = Work.of(point, micro_batch_size=2)
    assert work.sequence_s == pytest.approx(0.05)
    assert work.fixed_s == pytest.approx(0.01)
    assert work.backward_share == pytest.approx(0.75)
    assert work.step_s(4) == pytest.approx(0.21)
    assert work.window_s(4) == pytest.approx(0.075)
    assert work.window_s(1) == pytest.approx(0.0375)
    # What computation lost to messages beside it is no work.
    alone = Work.of(point, 2, slowed_s=0.04)
    assert (alone.sequence_s, alone.backward_share) == pytest.approx((0.045, 0.26 / 0.36))
    assert Model(HERE, HERE, []).work_of(point, 2) == work
    slower = Model(HERE, NETWORK.cost_model(HERE), [OVERLAP]).work_of(point, 2)
    assert 0 < work.sequence_s - slower.sequence_s <= 1e-3 / 8


def test_communication_by_hand():
    # Ring of 4 over the network: 6 latencies of 100 us, and 1.5 times 1 MB at 10 ns a byte.
    assert cluster().exposed_s(4, 2) == pytest.approx((0.0156, 0.0156))
    # In ten buckets, ten times the latency; of these 21 ms, a backward pass of 33 or more hides all but one bucket.
    assert cluster(BUCKETS).exposed_s(4, 1) == pytest.approx((0.0021, 0.021))
    assert cluster(BUCKETS).model.total_s(BUCKETS, 4, 1) == pytest.approx(0.021)
    assert cluster(BUCKETS).one_message_s(4) == pytest.approx(0.0156)


def test_a_window_that_is_too_short_hides_as_much_as_it_has():
    model = cluster(BUCKETS).model
    assert model.exposed_s(BUCKETS, 4, 1, 0.005) == pytest.approx((0.016, 0.021))
    assert model.exposed_s(BUCKETS, 4, 1, 0.2) == pytest.approx((0.0021, 0.021))
    assert cluster().model.exposed_s(BLOCKING, 4, 1, 0.2) == pytest.approx((0.0156, 0.0156))


def test_what_is_simulated_is_one_figure_between_the_bounds():
    # One bucket every 3.33 ms, of which each takes 4.2 ms at half the speed: 1.5 MB sent cost 1.5 ms at most.
    least, most = cluster(BUCKETS, overlaps=[OVERLAP]).exposed_s(4, 1)
    assert least == most
    window_s = WORK.window_s(1)
    rate = 0.5 / (1 - 0.5 * 1e-9 * 1.5e5 / 2.1e-3)
    done_s = rate * 0.9 * window_s
    assert most == pytest.approx(0.021 - done_s + done_s * 1e-9 * 1.5e5 / 2.1e-3)
    # Beside a pass that was measured with all that slows it down, only what is waited for is added.
    slowed, _ = cluster(BUCKETS, overlaps=[OVERLAP]).model.exposed_s(BUCKETS, 4, 1, window_s, is_slowed=True)
    assert slowed == pytest.approx(0.021 - 0.5 * 0.9 * window_s)


def test_the_nearest_measurement_of_fewer_ranks_counts():
    better = replace(OVERLAP, ranks=8, progress=1.0, lost_s_per_byte=0.0)
    both, first, second = (cluster(BUCKETS, overlaps=o) for o in ([OVERLAP, better], [OVERLAP], [better]))
    assert both.exposed_s(4, 1) == first.exposed_s(4, 1)
    assert both.exposed_s(8, 1) == second.exposed_s(8, 1) == both.exposed_s(8, 1)
    assert second.exposed_s(4, 1) == cluster(BUCKETS).exposed_s(4, 1)  # none of fewer: a range


def test_a_faster_network_takes_as_much_time_of_the_cores():
    """A window that is long enough hides all but the last bucket; the bytes cost what they cost."""
    for gbit_s in (0.8, 8.0, 80.0):
        at_once = cluster(BUCKETS, overlaps=[OVERLAP], network=Network(0.0, gbit_s)).model
        message_s = at_once.operation_s(4, 1, BUCKETS.message_bytes)
        exposed_s, _ = at_once.exposed_s(BUCKETS, 4, 1, 10.0)
        assert exposed_s == pytest.approx(message_s + 9 * 1e-9 * 1.5e5)


def test_inside_a_host_its_own_constants_count():
    least, most = cluster(BUCKETS, ranks_per_host=4, overlaps=[OVERLAP]).exposed_s(4, 1)
    assert least == most == pytest.approx(10 * (6e-6 + 1.5e5 * 1e-10))


@pytest.mark.parametrize("bucket_bytes", [None, 1 << 19])
def test_ranks_send_the_buckets_that_they_would_choose(bucket_bytes):
    config, of, network = (
        ParallelConfig(bucket_bytes=bucket_bytes),
        STRATEGIES["overlapped"].load().traffic,
        Network(50, 1),
    )
    model = Model(HERE, HERE, []).over(network)
    chosen = Cluster(WORK, model, lambda topology: of(config, 2_312_256, topology), ranks_per_host=2, network=network)
    made = project(chosen, batch_size=16, sequences=2, n_bytes=4 * 2_312_256)
    assert [row.messages for row in made.rows] == ([9, 9, 5, 3, 2, 2, 1] if bucket_bytes is None else [18] * 7)
    # 1,024 ranks with nothing hidden: 18 latencies of 0.1 s and 0.15 s for the bytes, or one latency.
    assert made.rows[-1].exposed_s[1] == pytest.approx(0.25 if bucket_bytes is None else 1.99, abs=0.01)


def test_local_steps_send_now_and_then():
    local = Traffic("all-to-all, all-gather", 1_000_000, every_steps=10)
    assert cluster(local).exposed_s(4, 1)[1] == pytest.approx(0.00156)


def test_efficiencies():
    assert cluster().weak_efficiency(4, 2)[0] == pytest.approx(0.11 / (0.11 + 0.0156))
    # 8 sequences take 410 ms on one rank, and 2 of them 110 on each of four.
    assert cluster().strong_efficiency(4, 8)[0] == pytest.approx(0.41 / (0.11 + 0.0156) / 4)
    assert cluster().strong_efficiency(4, 7)[0] == pytest.approx(0.36 / (0.11 + 0.0156) / 4)  # the slowest: 2
    assert cluster().strong_efficiency(8, 7) is None


@pytest.mark.parametrize("ranks", [2, 16, 1024])
@pytest.mark.parametrize("overlaps", [(), (OVERLAP,)])
@pytest.mark.parametrize("traffic", [BLOCKING, BUCKETS])
@pytest.mark.parametrize("efficiency", [0.5, KEPT_EFFICIENCY, 0.9])
def test_the_isoefficient_batch_is_enough_and_one_sequence_less_per_rank_is_not(ranks, overlaps, traffic, efficiency):
    c = cluster(traffic, overlaps=overlaps)
    batch_size = c.batch_for(efficiency, ranks)
    assert batch_size % ranks == 0
    assert c.strong_efficiency(ranks, batch_size)[0] >= efficiency
    assert batch_size == ranks or c.strong_efficiency(ranks, batch_size - ranks)[0] < efficiency


def test_isoefficiency_by_hand():
    """A ring over latency alone: waiting grows with p, so the batch of each rank does, and the batch with p squared."""
    c = cluster(replace(BLOCKING, message_bytes=0), network=Network(1000, 1))
    c = replace(c, work=replace(WORK, fixed_s=0.0))
    # 2 (p - 1) ms are a fifth of a step where computation takes 8 (p - 1) ms.
    assert [c.batch_for(0.8, p) for p in (16, 64, 256)] == [p * math.ceil(8 * (p - 1) / 50) for p in (16, 64, 256)]


@pytest.mark.parametrize("ranks", [16, 1024])
def test_local_steps_keep_the_efficiency_and_one_less_does_not(ranks):
    steps = cluster().local_steps_for(KEPT_EFFICIENCY, ranks, 1, n_bytes=1_000_000)

    def efficiency(h: int) -> float:
        exchange = CostModel("ring", 1e-4, 1e-8, 0.0).seconds(ranks, 1_000_000)
        return WORK.step_s(1) / (WORK.step_s(1) + exchange / h)

    assert efficiency(steps) >= KEPT_EFFICIENCY
    assert steps == 1 or efficiency(steps - 1) < KEPT_EFFICIENCY


def test_projection_says_where_it_ends():
    clusters = [cluster(), cluster(network=Network(0.1, 1000))]
    slow, fast = (project(c, batch_size=16, sequences=2, n_bytes=1_000_000) for c in clusters)
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
