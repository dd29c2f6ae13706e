from functools import partial

import numpy as np
import pytest

from dist_llm.measuring.spread import Spread
from dist_llm.scalability.laws import SpeedUps, fit, karp_flatt, serial_share, speed_up

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

    for share_of, error in ((amdahl, error_of_amdahl), (gustafson, error_of_gustafson)):
        best = share_of(CORES, speed_ups)
        assert error(best) < min(error(best - 1e-3), error(best + 1e-3))


def test_more_than_ideal_is_a_share_below_zero():
    assert amdahl([2], [2.1]) < 0
    assert gustafson([2], [2.1]) < 0


def series(speed_ups: dict[int, float]) -> list[SpeedUps]:
    return [SpeedUps(f"{n}x1", n, Spread.of([value] * 6)) for n, value in speed_ups.items()]


@pytest.mark.parametrize("law", ["Amdahl", "Gustafson"])
def test_a_law_that_holds_foretells_the_point_it_was_not_fitted_to(law):
    found = fit(law, series({n: speed_up(law, 0.05, n) for n in CORES}))
    assert found.serial_share.median == pytest.approx(0.05)
    assert found.serial_share.interval == pytest.approx([0.05, 0.05])
    assert (found.held_out.point, found.doubt) == ("16x1", "")
    assert found.held_out.error == pytest.approx(0.0, abs=1e-9)
    assert found.error == pytest.approx(0.0, abs=1e-9)


def test_a_law_that_fails_beyond_its_points_is_no_result():
    # Nearly ideal up to 8 cores, and nothing beyond: as when a second socket's memory is not reached.
    found = fit("Amdahl", series({2: 1.98, 4: 3.9, 8: 7.6, 16: 7.7}))
    assert found.held_out.error > 0.25
    assert found.doubt.startswith(("it is", "fitted to half the cores, it is +"))
    assert "off" in found.doubt


def test_shares_outside_0_to_100_percent_are_no_result():
    assert fit("Amdahl", series({2: 2.2})).doubt == (
        "no share between 0 and 100 % fits (more than n-fold speed on n cores)"
    )
    assert fit("Gustafson", series({2: 0.5})).doubt == "no share between 0 and 100 % fits"


def test_two_points_leave_nothing_to_foretell():
    assert fit("Amdahl", series({2: 1.9})).held_out is None
    assert fit("Amdahl", series({2: 1.9, 3: 2.8})).held_out is None
    assert fit("Amdahl", []) is None
