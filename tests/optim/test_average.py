import numpy as np
import pytest

from dist_llm.optim import average
from dist_llm.optim.average import WeightAverage


@pytest.mark.parametrize("chunk", [1 << 14, 3])
def test_it_is_the_plain_average(monkeypatch, chunk):
    monkeypatch.setattr(average, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(10)
    of_weights, expected = WeightAverage(weights, 0.9), weights.copy()
    for step in range(1, 200):
        weights += rng.standard_normal(10)
        of_weights.update(step)
        d = min(0.9, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * weights
        np.testing.assert_allclose(of_weights.data, expected, rtol=1e-12)


def test_it_changes_places_with_the_weights_and_back_in_every_bit(monkeypatch):
    monkeypatch.setattr(average, "CHUNK", 3)
    weights = np.random.default_rng(0).standard_normal(10)
    of_weights = WeightAverage(weights, 0.9)
    weights += 1
    before, mean = weights.copy(), of_weights.data.copy()
    with of_weights.in_use():
        assert np.array_equal(weights, mean)
        assert np.array_equal(of_weights.data, before)
    assert np.array_equal(weights, before)
    assert np.array_equal(of_weights.data, mean)


def test_the_weights_come_back_if_something_goes_wrong_meanwhile():
    weights = np.arange(3.0)
    of_weights = WeightAverage(weights, 0.9)
    weights += 1

    def fail() -> None:
        with of_weights.in_use():
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert np.array_equal(weights, [1, 2, 3])
