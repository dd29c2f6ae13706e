from dataclasses import replace

import pytest

from dist_llm.scalability.recommendation import recommendation
from tests.scalability.synthetic import learning_run, report, runs

QUIET = (1,) * 6
NOISY = (0.97, 1.0, 1.03, 0.98, 1.02, 1.0)  # of one point only: the ratio to others has an interval


def said(step_s, more=(), modes=("strong",), **changes):
    """What is recommended for points whose steps take so long."""
    measured = [*runs(step_s, QUIET), *more]
    names = dict.fromkeys((*step_s, *(run.point for run in more)))
    return report(measured, points=",".join(names), modes=modes, **changes).verdict[-1]


@pytest.mark.parametrize(
    ("step_s", "sentence"),
    [
        (  # 3 % more for twice the cores
            {"1x1": 1.0, "2x1": 0.52, "4x1": 0.52 / 1.03},
            "start 2 ranks of 1 thread; 4 ranks of 1 thread would bring 3 % more speed for twice the cores",
        ),
        (  # a gain of half of the cores' is just enough: 1.5 times the speed on twice the cores
            {"1x1": 1.5, "2x1": 1.0},
            "start 2 ranks of 1 thread, 1.50 times as fast as one process of 1 thread on twice the cores",
        ),
        (
            {"1x1": 1.49, "2x1": 1.0},
            "start one process of 1 thread; 2 ranks of 1 thread would bring 49 % more speed for twice the cores",
        ),
        (
            {"1x1": 1.0, "2x1": 1.25},
            "start one process of 1 thread; 2 ranks of 1 thread would be 20 % slower",
        ),
        (
            {"1x1": 1.0, "2x1": 0.998},
            "start one process of 1 thread; 2 ranks of 1 thread would bring no more speed for twice the cores",
        ),
        (  # 3 cores are not worth it, 4 are
            {"1x1": 1.0, "3x1": 0.6, "4x1": 0.3},
            "start 4 ranks of 1 thread, 3.33 times as fast as one process of 1 thread on 4 times the cores",
        ),
        (
            {"1x1": 1.0, "2x1": 0.5, "3x1": 0.45, "6x1": 0.4},
            "start 2 ranks of 1 thread; 3 ranks of 1 thread would bring 11 % more speed for 1.5 times the cores",
        ),
        ({"1x2": 1.0}, "start one process of 2 threads; nothing with more cores was measured"),
    ],
)
def test_more_cores_as_long_as_they_are_worth_it(step_s, sentence):
    assert said(step_s) == f"recommendation: on this machine {sentence}"


def test_of_as_many_cores_the_fastest_if_that_can_be_told():
    assert "start 2 ranks of 1 thread," in said({"1x1": 1.0, "2x1": 0.5, "1x2": 0.55})
    assert "start one process of 2 threads," in said({"1x1": 1.0, "2x1": 0.55, "1x2": 0.5})
    # 1 % less, and 3 % of noise: the fewest processes.
    assert "start one process of 2 threads," in said({"1x1": 1.0, "1x2": 0.505}, runs({"2x1": 0.5}, NOISY))
    assert "start 2 ranks of 2 threads," in said({"1x1": 1.0, "1x4": 0.4}, runs({"2x2": 0.27, "4x1": 0.266}, NOISY))
    assert "start 4 ranks of 1 thread," in said({"1x1": 1.0, "1x4": 0.4}, runs({"2x2": 0.3, "4x1": 0.266}, NOISY))


def test_oversubscribed_points_are_not_recommended():
    taking_turns = runs({"4x1": 0.2}, QUIET, warning="take turns")
    assert "start 2 ranks" in said({"1x1": 1.0, "2x1": 0.5}, taking_turns)
    assert "4 ranks" not in said({"1x1": 1.0, "2x1": 0.5}, taking_turns)
    everything = runs({"1x1": 1.0, "2x1": 0.9}, QUIET, warning="take turns")
    assert said({}, everything) == "no recommendation: all points are oversubscribed"


def test_nothing_is_recommended_in_doubt():
    assert said({"1x1": 1.0, "2x1": 0.5}, runs({"1x2": 0.5}, disturbance=0.5)) == (
        "no recommendation: without results of 1x2 it is not known which is best"
    )
    few = said({}, runs({"1x1": 1.0, "2x1": 0.5}, (1, 1)))
    assert few == "no recommendation: without results of 1x1, 2x1 it is not known which is best"
    assert said({"1x1": 1.0}, runs({"2x1": 0.5}, QUIET, loss=5.1)) == (
        "no recommendation: the points do not come to the same loss"
    )
    assert recommendation([], 8) == "no recommendation: nothing was measured"


def test_the_speed_is_that_of_the_verdict():
    """Where the machine slowed down after three rounds, the ratio of the medians would be 2.18."""
    measured = [*runs({"1x1": 1.0}, (1, 1, 1, 1.2, 1.2, 1.2)), *runs({"2x1": 0.5}, (1, 1, 1, 1.2, 1, 1.2))]
    line, sentence = report(measured, points="1x1,2x1").verdict
    assert "2.00 times 1x1" in line
    assert "2.00 times as fast" in sentence


def test_the_fixed_batch_is_preferred_and_a_growing_one_is_named():
    weak = runs({"2x1": 1.05}, QUIET, batch_size=16)
    assert said({"1x1": 1.0, "2x1": 0.9}, weak, modes=("weak", "strong")).startswith(
        "recommendation: on this machine start one process of 1 thread; "
    )
    assert said({"1x1": 1.0}, weak, modes=("weak",)).startswith(
        "recommendation (weak scaling): on this machine start 2 ranks of 1 thread, 1.90 times"
    )


def test_several_hosts():
    (series,) = report(runs({"1x1": 1.0, "2x1": 0.5}), points="1x1,2x1").series
    apart = replace(series, points=[series.points[0], replace(series.points[1], hosts=2)])
    assert recommendation([apart], 8).startswith("recommendation: on these machines start 2 ranks of 1 thread,")


def test_with_a_loss_to_come_to_the_batch_is_named():
    learned = [learning_run(8, [6.0, 5.0, 2.0], 100), learning_run(16, [6.0, 2.0], 10)]
    larger = runs({"1x1": 2.0, "2x1": 1.0}, QUIET, batch_size=16)
    assert said({"1x1": 1.0, "2x1": 0.5}, larger, learned=learned) == (
        "recommendation: on this machine start 2 ranks of 1 thread with batches of 16 sequences, 2.00 times as fast as "
        "one process of 1 thread on twice the cores; a validation loss of 3 takes 7.5 s so"
    )
    unreached = said({"1x1": 1.0, "2x1": 0.5}, larger, learned=learned, loss=1.0)
    assert " start 2 ranks of 1 thread, 2.00 times as fast" in unreached
    assert unreached.endswith("; no batch size came to a validation loss of 1")
