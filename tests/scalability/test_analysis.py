import pytest

from dist_llm.config import Config
from dist_llm.measuring.peak import Peak
from dist_llm.measuring.spread import Spread
from dist_llm.scalability.analysis import compare_losses, summarize
from dist_llm.scalability.points import Point
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
    assert one.tokens_per_s == Spread(median=800, min=400, max=800, rounds=[800, 400, 800])
    assert one.efficiency.median == 1
    assert two.speed_up.rounds == pytest.approx([1 / 0.55] * 3)  # by rounds: the slow one is no exception
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
    assert one.mfu.rounds == pytest.approx([800e6 / 100e9, 400e6 / 100e9, 800e6 / 100e9])
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
    assert two.shares == pytest.approx(
        {"compute": 0.7, "communication": 0.05, "imbalance": 0.15, "data": 0, "optimizer": 0.1, "other": 0}
    )
    assert two.seconds["imbalance"] == pytest.approx(0.075)
    assert two.step_s == pytest.approx(0.5)
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


def test_disturbed_and_scattered_points_must_be_repeated():
    (points,) = summary(runs({"1x1": 1.0}, slow=(1, 1, 1)) + runs({"2x1": 0.5}, (1, 1, 1), disturbance=0.2))
    assert points["1x1"].repeat == ""
    assert points["2x1"].repeat == "other work disturbed 3 of 3 runs"
    assert points["2x1"].disturbed_runs == 3
    (points,) = summary(runs({"1x1": 1.0}, slow=(1, 1.05, 1.2)))
    assert points["1x1"].repeat == "the runs are 18 % apart"
    one_disturbed = [*runs({"1x1": 1.0}, (1, 1)), one_run(2, Point(1, 1), 1.0, disturbance=0.2)]
    (points,) = summary(one_disturbed)
    assert (points["1x1"].disturbed_runs, points["1x1"].repeat) == (1, "")


def losses(*values: float, threads: tuple[int, ...] = (1, 1), **parallel):
    config = Config().replace({"parallel": parallel})
    points = [Point(n + 1, t) for n, t in enumerate(threads)]
    measured = [{0: one_run(0, p, 1.0, loss=v)} for p, v in zip(points, values, strict=True)]
    measured[0][0].losses.append(4.0)  # the last step that all have is the third
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
