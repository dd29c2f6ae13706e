import pytest

from dist_llm.parallel.strategy import Traffic
from dist_llm.scalability.performance_model import ALGORITHMS, CostModel, Sample, coefficients, fit, fit_best

A, B, G = 5e-6, 2e-10, 5e-11
SIZES = (1 << 10, 1 << 14, 1 << 18, 1 << 23)
ALL_REDUCE, STARTED = Traffic("all-reduce", 1 << 20), Traffic("started all-reduce", 1 << 19, 2, overlaps=True)


def samples(algorithm: str, ranks: tuple[int, ...]) -> list[Sample]:
    model = CostModel(algorithm, A, B, G)
    return [Sample(p, n, model.seconds(p, n)) for p in ranks for n in SIZES]


def test_coefficients_by_hand():
    # 8 ranks, 800 bytes: 7/8 of them are 700.
    assert coefficients("ring", 8, 800) == (14, 1400, 700)
    assert coefficients("Rabenseifner", 8, 800) == (6, 1400, 700)
    assert coefficients("recursive doubling", 8, 800) == (3, 2400, 2400)
    assert coefficients("ring", 2, 800) == coefficients("Rabenseifner", 2, 800)


def test_a_measured_ring_over_ethernet():
    # 9.249 MB over 1 Gbit/s as measured between hosts: 77 to 80 ms on 2, 118 to 135 on 4.
    ring = CostModel("ring", 25e-6, 8 / 0.955e9, 0.0)
    assert 0.077 < ring.seconds(2, 9_249_024) < 0.080
    assert 0.114 < ring.seconds(4, 9_249_024) < 0.135


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_known_constants_are_found_again(algorithm):
    model, fitted = fit(samples(algorithm, (2, 4, 8)), algorithm, G)
    assert model.latency_s == pytest.approx(A)
    assert model.s_per_byte == pytest.approx(B)
    assert max(abs(sample.error) for sample in fitted) < 1e-9


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_of_several_the_algorithm_that_fits_is_chosen(algorithm):
    model, _ = fit_best(samples(algorithm, (2, 4, 8)), ALL_REDUCE, G, ring_is_set=True)
    assert model.algorithm == algorithm
    assert model.shares_link == (algorithm != "ring")
    model, _ = fit_best(samples(algorithm, (2, 4, 8)), STARTED, G, ring_is_set=False)
    assert model.algorithm == algorithm


def test_what_is_known_is_not_guessed():
    model, fitted = fit_best(samples("recursive doubling", (2, 4, 8)), STARTED, G, ring_is_set=True)
    assert model.algorithm == "ring"
    assert max(abs(sample.error) for sample in fitted) > 0.05  # and its misfit is told
    exchange, _ = fit_best(samples("ring", (2, 4)), Traffic("all-to-all, all-gather", 1 << 20), G, ring_is_set=True)
    assert (exchange.algorithm, exchange.shares_link) == ("ring", True)


def test_no_constant_is_negative():
    # Faster for large messages than additions alone would be: neither time can be below zero.
    model, fitted = fit([Sample(2, 1 << 10, 1e-6), Sample(2, 1 << 20, 2e-6)], "ring", G)
    assert model.latency_s >= 0
    assert model.s_per_byte >= 0
    assert max(abs(sample.error) for sample in fitted) > 0.1
    decreasing = [Sample(2, 1 << 10, 1e-5), Sample(2, 1 << 20, 1e-6)]
    assert fit(decreasing, "ring", 0.0)[0].s_per_byte == 0


def test_ranks_of_a_host_share_its_link_but_in_a_ring():
    for shares, factor in ((False, 1), (True, 4)):
        model = CostModel("ring", A, B, G, shares)
        alone = CostModel("ring", A, factor * B, G)
        assert model.seconds(8, 1 << 20, ranks_per_host=4) == pytest.approx(alone.seconds(8, 1 << 20))
