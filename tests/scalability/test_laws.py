from functools import partial

import numpy as np
import pytest

from dist_llm.scalability.analysis import karp_flatt, serial_share

amdahl, gustafson = partial(serial_share, "Amdahl"), partial(serial_share, "Gustafson")

CORES = [2, 4, 8, 16]


@pytest.mark.parametrize("serial", [0.0, 0.03, 0.5])
def test_a_known_serial_share_is_found(serial):
    assert amdahl(CORES, [1 / (serial + (1 - serial) / n) for n in CORES]) == pytest.approx(serial, abs=1e-12)
    assert gustafson(CORES, [n - serial * (n - 1) for n in CORES]) == pytest.approx(serial, abs=1e-12)
    for n in CORES:
        assert karp_flatt(n, 1 / (serial + (1 - serial) / n)) == pytest.approx(serial, abs=1e-12)


def test_half_efficient_on_two_cores_by_hand():
    assert amdahl([2], [1.0]) == pytest.approx(1.0)
    assert gustafson([2], [1.5]) == pytest.approx(0.5)
    assert karp_flatt(2, 1.6) == pytest.approx(0.25)  # 1 / 1.6 = 0.25 + 0.75 / 2


def test_it_is_the_least_squares_solution():
    rng = np.random.default_rng(3)
    speed_ups = [n * (1 - 0.02 * i) * rng.uniform(0.95, 1.0) for i, n in enumerate(CORES)]

    def error_of_amdahl(s):
        return sum((s + (1 - s) / n - 1 / measured) ** 2 for n, measured in zip(CORES, speed_ups, strict=True))

    def error_of_gustafson(s):
        return sum((n - s * (n - 1) - measured) ** 2 for n, measured in zip(CORES, speed_ups, strict=True))

    for fit, error in ((amdahl, error_of_amdahl), (gustafson, error_of_gustafson)):
        best = fit(CORES, speed_ups)
        assert error(best) < min(error(best - 1e-3), error(best + 1e-3))


def test_more_than_ideal_is_a_share_below_zero():
    assert amdahl([2], [2.1]) < 0
    assert gustafson([2], [2.1]) < 0
