import numpy as np
import pytest

from dist_llm.measuring.warm_up import warm_up
from dist_llm.seeding import generator


def test_slow_first_steps_are_left_out():
    assert warm_up([9.0, 3.0, 1.5, 1.0, 1.01, 0.99, 1.0, 1.02, 1.0, 1.01]) == 3
    assert warm_up([1.0, 1.0, 1.0, 1.0]) == 0
    assert warm_up([0.4, 1.0, 1.0, 1.0, 1.0]) == 1  # nor are first steps that are too fast like the others


def test_a_known_warm_up_is_found_in_noise():
    found = []
    for draw in range(200):
        rng = generator(draw, "warm-up")
        steps = 1 + 0.02 * rng.standard_normal(40)
        steps[:6] += np.linspace(1.0, 0.15, 6)
        found.append(warm_up(list(steps)))
    assert np.mean([6 <= d <= 12 for d in found]) > 0.9
    assert min(found) >= 5


def test_without_a_warm_up_the_mean_is_not_moved():
    kept = []
    for draw in range(500):
        steps = 1 + 0.05 * generator(draw, "steady").standard_normal(12)
        kept.append(np.mean(steps[warm_up(list(steps)) :]))
    assert np.mean(kept) == pytest.approx(1.0, abs=4 * np.std(kept) / 500**0.5)


def test_steps_that_belong_together_stay_together():
    # Every fourth step exchanges parameters, and takes longer for it: that is no warm-up.
    steps = [5.0, 1, 1, 2, *[1, 1, 1, 2] * 5]
    assert warm_up(steps, group=4) == 4
    assert warm_up([1, 1, 1, 2] * 4, group=4) == 0


def test_at_most_half_and_never_all():
    assert warm_up([5.0, 4.0, 3.0, 2.0]) <= 2
    assert warm_up([5.0]) == 0
    assert warm_up([5.0, 1.0]) <= 1
