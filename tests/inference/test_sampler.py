import numpy as np
import pytest

from dist_llm.errors import UserError
from dist_llm.inference.sampler import Sampler

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3], np.float32))


def test_temperature_0_is_greedy():
    assert Sampler(temperature=0).sample(LOGITS, np.random.default_rng(0)) == 1


def test_frequencies_follow_the_probabilities():
    rng = np.random.default_rng(0)
    drawn = np.bincount([Sampler().sample(LOGITS, rng) for _ in range(20000)], minlength=4) / 20000
    np.testing.assert_allclose(drawn, [0.1, 0.4, 0.2, 0.3], atol=0.015)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (Sampler(), [0.1, 0.4, 0.2, 0.3]),
        (Sampler(temperature=0.5), np.array([1, 16, 4, 9]) / 30),
        (Sampler(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampler(top_k=99), [0.1, 0.4, 0.2, 0.3]),
        (Sampler(top_p=0.4 - 1e-3), [0, 1, 0, 0]),
        (Sampler(top_p=0.5), [0, 4 / 7, 0, 3 / 7]),
        (Sampler(top_p=0.8), [0, 4 / 9, 2 / 9, 3 / 9]),
        (Sampler(top_k=3, top_p=0.7), [0, 4 / 7, 0, 3 / 7]),
    ],
)
def test_probabilities(sampler, expected):
    np.testing.assert_allclose(sampler.probabilities(LOGITS), expected, rtol=1e-5)


def test_a_tiny_temperature_is_no_overflow():
    assert Sampler(temperature=1e-310).sample(1e4 * LOGITS, np.random.default_rng(0)) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -1}, "temperature must be 0 or above"),
        ({"temperature": float("nan")}, "temperature must be 0 or above"),
        ({"top_k": -1}, "top-k must be 0"),
        ({"top_p": 0}, "top-p must lie in"),
        ({"top_p": 1.5}, "top-p must lie in"),
    ],
)
def test_values_out_of_range(values, message):
    with pytest.raises(UserError, match=message):
        Sampler(**values)
