import numpy as np
import pytest

from dist_llm.config import Config
from dist_llm.measuring.peak import Peak
from dist_llm.scalability.analysis import summarize
from dist_llm.scalability.losses import compare_losses
from dist_llm.scalability.points import Point
from dist_llm.seeding import generator
from tests.scalability.synthetic import CONFIG, STRONG, one_run, runs, study

FLOPS = 1_000_000


def summary(measured, **changes):
    s = study(measured, **changes)
    results = [summarize(series, s.runs, Peak.best(s.peaks), CONFIG, FLOPS) for series in s.series]
    return [{p.point: p for p in result.points} | {"series": result} for result in results]


def test_speeds_speed_ups_and_efficiency_of_known_timings():
    (points,) = summary(runs(STRONG))
    assert points["series"].reference == "1x1"
    one, two, four, threads = points["1x1"], points["2x1"], points["4x1"], points["1x4"]
    # 8 sequences of 100 tokens; the second round was twice as slow for all.
    assert one.tokens_per_s.rounds == [800, 400, 800, 800, 800, 800]
    assert (one.tokens_per_s.median, one.tokens_per_s.min) == (800, 400)
    assert one.efficiency.median == 1
    assert two.speed_up.rounds == pytest.approx([1 / 0.55] * 6)  # by rounds: the slow one is no exception
    assert two.efficiency.median == pytest.approx(1 / 0.55 / 2)
    assert four.efficiency.median == pytest.approx(1 / 0.325 / 4)
    assert two.karp_flatt == pytest.approx(0.1)
    assert four.karp_flatt == pytest.approx(0.1)
    assert threads.karp_flatt == pytest.approx(0.5)
    assert four.to_one_process.median == pytest.approx(0.625 / 0.325)
    assert threads.to_one_process.median == 1
    fit = points["series"].fit
    assert (fit.law, fit.points) == ("Amdahl", ["2x1", "4x1"])
    assert fit.serial_share.median == pytest.approx(0.1)
    # The peak of all four cores is less than four times that of one.
    assert one.mfu.rounds[:2] == pytest.approx([800e6 / 100e9, 400e6 / 100e9])
    assert two.mfu.median == pytest.approx(800 / 0.55 * 1e6 / 200e9)
    assert four.mfu.median == pytest.approx(800 / 0.325 * 1e6 / 380e9)


def test_weak_series_has_its_own_batches():
    weak = {"1x1": 1.0, "2x1": 1.1}
    measured = runs({"1x1": 1.0}) + runs({"2x1": 1.1}, batch_size=16) + runs({"2x1": 0.55})
    strong_points, weak_points = summary(measured, points="1x1,2x1", modes=("strong", "weak"))
    assert weak.keys() <= weak_points.keys()
    assert strong_points["2x1"].speed_up.median == pytest.approx(1 / 0.55)
    assert weak_points["2x1"].batch_size == 16
    assert weak_points["2x1"].speed_up.median == pytest.approx(2 / 1.1)
    assert weak_points["series"].fit.law == "Gustafson"
    assert weak_points["series"].fit.serial_share.median == pytest.approx(2 - 2 / 1.1)
    assert weak_points["series"].losses is None


def test_where_the_time_goes():
    (points,) = summary(runs({"1x1": 1.0, "2x1": 0.5}, waiting=(0.05, 0.15)), points="1x1,2x1")
    two = points["2x1"]
    assert {phase: share.median for phase, share in two.shares.items()} == pytest.approx(
        {"compute": 0.7, "communication": 0.05, "imbalance": 0.15, "data": 0, "optimizer": 0.1, "other": 0}
    )
    assert two.seconds["imbalance"] == pytest.approx(0.075)
    assert two.step_s.median == pytest.approx(0.5)
    assert two.backward_s == pytest.approx(0.6 * 0.35)
    assert two.bytes_sent == 1000
    assert two.peak_memory_bytes == [100_000_000, 100_000_001]
    assert two.binding == "dist_llm"


def test_without_one_core_the_smallest_point_is_the_reference():
    (points,) = summary(runs({"2x1": 0.5, "4x1": 0.25}), points="2x1,4x1")
    assert points["series"].reference == "2x1"
    assert points["4x1"].efficiency.median == 1
    assert points["4x1"].to_one_process is None


def test_a_failed_point_is_missing_and_the_rest_stands():
    (points,) = summary([run for run in runs(STRONG) if run.point != "1x1"])
    assert points["series"].failed == ["1x1"]
    assert points["series"].reference == "1x2"


def test_oversubscribed_points_are_no_scaling():
    measured = runs({"1x1": 1.0, "2x1": 0.55}) + runs({"4x1": 0.1}, warning="4 threads of 4 ranks take turns")
    (points,) = summary(measured, points="1x1,2x1,4x1")
    assert points["4x1"].oversubscribed
    assert points["4x1"].karp_flatt is None
    assert points["series"].fit.points == ["2x1"]


def test_disturbed_runs_do_not_count_and_those_measured_again_do():
    measured = runs({"1x1": 1.0, "2x1": 0.55})
    # The first three runs of 2x1 were disturbed, and slow; two of them were measured again in their round.
    slow = [one_run(number, Point(2, 1), 0.9, disturbance=0.2) for number in range(3)]
    kept = [run for run in measured if run.point == "1x1" or run.round != 2]
    (points,) = summary([*slow, *kept], points="1x1,2x1")
    two = points["2x1"]
    assert (two.runs, two.disturbed_runs) == (8, 3)
    assert len(two.tokens_per_s.rounds) == 5
    assert two.speed_up.rounds == pytest.approx([1 / 0.55] * 5)
    assert two.doubt == "other work disturbed 3 of 8 runs"
    (points,) = summary([*slow, *measured], points="1x1,2x1")
    assert (points["2x1"].doubt, points["2x1"].disturbed_runs) == ("", 3)


def test_what_is_disturbed_throughout_has_speeds_and_nothing_else():
    measured = runs({"1x1": 1.0}) + runs({"2x1": 0.5}, disturbance=0.2)
    (points,) = summary(measured, points="1x1,2x1")
    two = points["2x1"]
    assert points["1x1"].doubt == ""
    assert two.doubt == "other work disturbed 6 of 6 runs"
    assert two.tokens_per_s.median == 1600
    assert (two.speed_up, two.efficiency, two.to_one_process, two.factors, two.karp_flatt) == (None,) * 5
    assert points["series"].fit is None


def test_fewer_than_six_rounds_are_doubtful():
    (points,) = summary(runs({"1x1": 1.0, "2x1": 0.5}, (1, 1, 1)), points="1x1,2x1")
    assert points["2x1"].doubt == "3 rounds: fewer than the 6 of a 95 % interval"
    assert points["2x1"].efficiency.median == 1


def test_a_point_is_doubtful_without_enough_rounds_of_the_reference():
    measured = runs({"2x1": 0.5}) + [one_run(r, Point(1, 1), 1.0, disturbance=0.2 * (r < 2)) for r in range(6)]
    (points,) = summary(measured, points="1x1,2x1")
    assert points["1x1"].doubt == "other work disturbed 2 of 6 runs"
    assert points["2x1"].doubt == "4 rounds in common with the reference: fewer than the 6 of a 95 % interval"
    # Rounds enough of both, but not the same ones, have no ratio either.
    later = [one_run(r, Point(1, 1), 1.0) for r in range(3, 9)]
    (points,) = summary(runs({"2x1": 0.5}) + later, points="1x1,2x1")
    assert points["1x1"].doubt == ""
    assert points["2x1"].doubt.startswith("3 rounds in common with the reference")


def test_efficiency_is_covered_by_its_interval_though_rounds_drift():
    """Rounds differ by up to 40 %, and runs within them by 3 %: the truth, 90 %, is in 93 to 97 % of the intervals."""
    covered = []
    for draw in range(300):
        rng = generator(draw, "rounds")
        drift, noise = 1 + 0.4 * rng.random(8), np.exp(0.03 * rng.standard_normal((2, 8)))
        measured = [one_run(r, Point(1, 1), drift[r] * noise[0, r], steps=1) for r in range(8)]
        measured += [one_run(r, Point(2, 1), drift[r] * noise[1, r] / 1.8, steps=1) for r in range(8)]
        (points,) = summary(measured, points="1x1,2x1")
        low, high = points["2x1"].efficiency.interval
        covered.append(low <= 0.9 <= high)
    assert 0.9 <= np.mean(covered) <= 0.99


def test_percentiles_of_single_steps_leave_the_warm_up_out():
    (points,) = summary(runs({"1x1": 1.0}, (1,) * 6, steps=20))
    times = points["1x1"].step_times
    assert (times.steps, times.p50_s, times.p95_s, times.p99_s) == (120, 1.0, 1.0, 1.0)
    assert times.warm_up_steps == [1] * 6
    (points,) = summary(runs({"1x1": 1.0}, (1, 1), steps=5))
    assert (points["1x1"].step_times.p50_s, points["1x1"].step_times.p95_s) == (1.0, None)


def test_the_slowest_rank_is_named():
    measured = runs({"2x1": 0.5}, (1,) * 6)
    for run in measured[:4]:  # rank 1 computes for what rank 0 waits for it
        run.ranks[0].seconds["imbalance"] = 0.2 * run.ranks[0].total_s
    for run in measured[4:]:
        run.ranks[1].seconds["imbalance"] = 0.2 * run.ranks[1].total_s
    (points,) = summary(measured, points="2x1")
    slowest = points["2x1"].slowest_rank
    assert (slowest.rank, slowest.host, slowest.slowest_in) == (1, "here", 4)
    assert slowest.behind.max == pytest.approx(1 / 0.9 - 1)


def losses(*values: float, threads: tuple[int, ...] = (1, 1), **parallel):
    config = Config().replace({"parallel": parallel})
    points = [Point(n + 1, t) for n, t in enumerate(threads)]
    measured = [one_run(0, p, 1.0, loss=v) for p, v in zip(points, values, strict=True)]
    measured[0].losses.append(4.0)  # the last step that all have is the third
    return compare_losses(measured, config)


def test_losses_must_be_equal_to_rounding():
    result = losses(5.0, 5.0001)
    assert (result.step, result.equal) == (3, True)
    assert result.by_point == {"1x1": 5.0, "2x1": 5.0001}
    assert result.difference == pytest.approx(2e-5)
    assert losses(5.0, 5.001).equal is False
    assert losses(5.0, 5.001, strategy="blocking", reduce_dtype="bfloat16").equal is True


def test_deterministic_losses_must_be_equal_in_every_bit():
    assert losses(5.0, 5.0, strategy="deterministic").equal is True
    assert losses(5.0, 5.000000001, strategy="deterministic").equal is False
    # Another number of BLAS threads adds up a product in another order.
    assert losses(5.0, 5.000000001, strategy="deterministic", threads=(1, 2)).equal is True
    # A point of other threads among them is no excuse for those of the same.
    assert losses(5.0, 5.000000001, 5.0, strategy="deterministic", threads=(1, 1, 2)).equal is False
    assert losses(5.0, 5.0, 5.000000001, strategy="deterministic", threads=(1, 1, 2)).equal is True


def test_local_steps_are_another_algorithm_on_each_number_of_ranks():
    assert losses(5.0, 5.5, strategy="local").equal is None
