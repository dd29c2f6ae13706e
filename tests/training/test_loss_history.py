"""Losses by tokens and time: averages and thinning against plain references, and what a record adds."""

import numpy as np
import pytest

from dist_llm.training import loss_history
from dist_llm.training.loss_history import LossHistory, Point, Points, moving_average, rounded_down
from tests.training.pictures import made_up


@pytest.mark.parametrize("half_life", [3.0, 50.0, 1e6])
def test_the_average_is_that_of_the_equation_at_uneven_steps_too(half_life):
    rng = np.random.default_rng(3)
    tokens, losses = np.cumsum(rng.integers(1, 40, 200)), rng.normal(3, 1, 200)
    averages = moving_average(tokens.tolist(), losses.tolist(), half_life)
    for n in range(200):
        weights = 2.0 ** (-(tokens[n] - tokens[: n + 1]) / half_life)
        assert averages[n] == pytest.approx(weights @ losses[: n + 1] / weights.sum(), rel=1e-12)
    assert moving_average(tokens[:90].tolist(), losses[:90].tolist(), half_life) == averages[:90]  # it looks back only


def test_after_a_half_life_half_of_a_change_is_in_the_average():
    averages = moving_average(range(2000), [5.0] * 1500 + [3.0] * 500, 100)
    assert averages[1499] == pytest.approx(5)
    assert averages[1599] == pytest.approx(4, abs=1e-3)
    assert averages[1699] == pytest.approx(3.5, abs=1e-3)


def test_points_become_means_of_more_losses_and_stay_few(monkeypatch):
    monkeypatch.setattr(loss_history, "MOST_POINTS", 8)
    points, losses = Points(), np.random.default_rng(0).normal(size=30)
    for i, loss in enumerate(losses):
        points.add(Point(10.0 * i, 2.0 * i, loss))
        assert 0 < len(points) <= 8
    assert points.each == 4
    assert points.losses == pytest.approx([losses[i : i + 4].mean() for i in range(0, 30, 4)])
    ends = [*range(3, 30, 4), 29]
    assert points.tokens == [10.0 * i for i in ends]
    assert points.seconds == [2.0 * i for i in ends]
    assert points.best == Point(10.0 * losses.argmin(), 2.0 * losses.argmin(), losses.min())


def test_time_is_that_of_steps_and_evaluations():
    history = LossHistory()
    history.add({"tokens": 100, "loss": 5.0, "tokens_per_s": 50.0})  # 2 s
    history.add({"tokens": 400, "loss": None, "tokens_per_s": 100.0, "val_loss": 4.0, "val_seconds": 10.0})  # 3 s, 10 s
    history.add({"tokens": 500, "loss": 3.0, "tokens_per_s": 100.0, "val_loss": 4.0})  # 1 s
    assert (history.tokens, history.seconds) == (500, 16)
    assert (history.train.tokens, history.train.seconds, history.train.losses) == ([100, 500], [2, 16], [5, 3])
    assert (history.val.tokens, history.val.seconds, history.val.losses) == ([400, 500], [15, 16], [4, 4])
    assert history.val.best == Point(400, 15, 4.0)  # the first of two
    seconds, tokens = history.times()
    assert np.interp([0, 1, 2, 15, 15.5, 16], seconds, tokens).tolist() == [0, 50, 100, 400, 450, 500]


def test_the_tokens_stay_the_same_during_an_evaluation():
    history = LossHistory()
    history.add({"tokens": 100, "loss": 5.0, "tokens_per_s": 50.0, "val_loss": 4.0, "val_seconds": 8.0})
    history.add({"tokens": 200, "loss": 5.0, "tokens_per_s": 50.0})
    seconds, tokens = history.times()
    assert np.interp([1, 2, 5, 10, 11, 12], seconds, tokens).tolist() == [50, 100, 100, 100, 150, 200]


@pytest.mark.parametrize("no_loss", [None, float("nan"), float("inf"), -float("inf"), 1e39])
def test_what_is_no_loss_is_left_out(no_loss):
    history = LossHistory()
    history.add({"tokens": 100, "loss": no_loss, "tokens_per_s": 50.0, "val_loss": no_loss or float("nan")})
    assert not history.train
    assert not history.val
    assert history.seconds == 2


@pytest.mark.parametrize(
    "record",
    [
        {"tokens": 99, "loss": 1.0, "tokens_per_s": 1.0},
        {"tokens": float("nan"), "loss": 1.0, "tokens_per_s": 1.0},
        {"tokens": 1e39, "loss": 1.0, "tokens_per_s": 1.0},
        {"tokens": 200, "loss": 1.0, "tokens_per_s": -1.0},
        {"tokens": 200, "loss": 1.0, "tokens_per_s": 1.0, "val_seconds": -1.0},
    ],
)
def test_tokens_and_time_do_not_go_back(record):
    history = LossHistory()
    history.add({"tokens": 100, "loss": 5.0, "tokens_per_s": 50.0})
    with pytest.raises(ValueError, match=r"tokens or time go back|cannot convert"):
        history.add(record)


@pytest.mark.parametrize("n", [20, 100, 2000, 20_000])
def test_the_half_life_suits_the_length_of_the_run(n):
    history = LossHistory()
    for record in made_up(n):
        history.add(record)
    half_life = history.train.half_life()
    assert f"{half_life:.0e}"[0] in "125"
    assert half_life >= 1000 * history.train.each
    assert 0.008 * n <= half_life / 1000 <= max(0.02 * n, 3)
    rough, smooth = (
        np.diff(losses[len(losses) // 2 :]).std() for losses in (history.train.losses, history.train.averaged())
    )
    assert smooth < rough / (2 if n < 2000 else 10)


def test_few_points_have_no_average():
    history = LossHistory()
    for record in made_up(19):
        history.add(record)
    assert history.train.half_life() is None
    assert history.train.averaged() == history.train.losses


@pytest.mark.parametrize(
    ("value", "rounded"), [(1, 1), (1.99, 1), (2, 2), (4.9, 2), (5, 5), (9.9, 5), (10, 10), (0.03, 0.02), (7e9, 5e9)]
)
def test_rounding_down(value, rounded):
    assert rounded_down(value) == pytest.approx(rounded, rel=1e-12)
