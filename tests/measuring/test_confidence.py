"""Intervals hold the truth as often as they say, whatever the distribution, and are those of the order statistics."""

import math
from collections.abc import Callable
from statistics import median

import numpy as np
import pytest

from dist_llm.measuring.confidence import FEWEST, median_interval, ratio_interval
from dist_llm.measuring.spread import Spread
from dist_llm.seeding import generator

DRAWS = 2000
# Values with the median 100: times that are skewed as those of a disturbed machine, and others.
DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: 100 + 3 * rng.standard_normal(n),
    "lognormal": lambda rng, n: 100 * np.exp(0.2 * rng.standard_normal(n)),
    "exponential": lambda rng, n: 100 + 10 * (rng.exponential(size=n) - math.log(2)),
    "heavy tails": lambda rng, n: 100 + rng.standard_t(2, n),
}


@pytest.mark.parametrize("n", [6, 7, 9, 12, 25])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_interval_of_a_median_covers_it_in_93_to_97_percent_of_2000_draws(name: str, n: int):
    rng = generator(n, f"draws {name}")
    intervals = np.array([median_interval(list(DISTRIBUTIONS[name](rng, n))) for _ in range(DRAWS)])
    covered = np.mean((intervals[:, 0] <= 100) & (intervals[:, 1] >= 100))
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_measuring_until_the_interval_is_narrow_costs_up_to_five_percent_of_coverage(name: str):
    rng, most, covered = generator(0, f"draws until narrow {name}"), 40, 0
    for values in (list(DISTRIBUTIONS[name](rng, most)) for _ in range(DRAWS)):
        spreads = (Spread.of(values[:n]) for n in range(FEWEST, most + 1))
        low, high = next((s.interval for s in spreads if s.is_within(3)), None) or Spread.of(values).interval or (0, 0)
        covered += low <= 100 <= high
    assert 0.90 <= covered / DRAWS <= 0.97


@pytest.mark.parametrize(("n_new", "n_old"), [(6, 6), (7, 12), (20, 9)])
@pytest.mark.parametrize("name", ["normal", "lognormal", "exponential"])
def test_the_interval_of_a_ratio_covers_it_in_93_to_97_percent_of_2000_draws(
    name: str, n_new: int, n_old: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dist_llm.measuring.confidence.RESAMPLES", 500)  # for the time that it takes
    rng, draw = generator(n_new, f"ratio draws {name}"), DISTRIBUTIONS[name]
    intervals = np.array([ratio_interval(list(1.5 * draw(rng, n_new)), list(draw(rng, n_old))) for _ in range(DRAWS)])
    covered = np.mean((intervals[:, 0] <= 1.5) & (intervals[:, 1] >= 1.5))
    assert 0.93 <= covered <= 0.97


def test_the_interval_lies_between_neighbouring_order_statistics():
    # Of 10 values, the 2nd to the 9th hold the median with 97.9 %, the 3rd to the 8th with 89.1 %.
    values = [float(v) for v in range(1, 11)]
    low, high = median_interval(values[::-1]) or (0.0, 0.0)
    assert 2 < low < 3
    assert 8 < high < 9
    assert low - 1 == pytest.approx(10 - high)
    # By the formula: inward = (0.97852 - 0.95) / (0.97852 - 0.89063), weight = 8 inward / (2 + 6 inward).
    inward = (1 - 2 * 11 / 1024 - 0.95) / (2 * 45 / 1024)
    assert low == pytest.approx(2 + 8 * inward / (2 + 6 * inward))


def test_equal_values_have_an_interval_of_no_width():
    assert median_interval([2.0] * FEWEST) == [2.0, 2.0]
    assert ratio_interval([3.0] * FEWEST, [2.0] * FEWEST) == pytest.approx([1.5, 1.5])


def test_fewer_than_six_values_have_no_interval():
    assert median_interval([1.0] * (FEWEST - 1)) is None
    assert ratio_interval([1.0] * FEWEST, [1.0] * (FEWEST - 1)) is None


def test_the_same_values_give_the_same_interval_of_a_ratio():
    new, old = [1.0, 1.2, 1.1, 1.3, 0.9, 1.0], [2.0, 2.1, 1.9, 2.2, 2.0, 2.3]
    assert ratio_interval(new, old) == ratio_interval(new, old)
    low, high = ratio_interval(new, old) or (0.0, 0.0)
    assert low < median(new) / median(old) < high
