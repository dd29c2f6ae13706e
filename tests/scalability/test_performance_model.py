import pytest

from dist_llm.measuring.spread import Spread
from dist_llm.parallel.cost import ALGORITHMS, CostModel, coefficients
from dist_llm.parallel.strategy import Traffic
from dist_llm.scalability.operations import Timings
from dist_llm.scalability.performance_model import Sample, calibrate, fit

A, B, G = 5e-6, 2e-10, 5e-11
SIZES = (1 << 10, 1 << 14, 1 << 18, 1 << 23)
ALL_REDUCE, STARTED = Traffic("all-reduce", 1 << 20), Traffic("nonblocking all-reduce", 1 << 19, 2, overlaps=True)


def sample(ranks: int, n_bytes: int, seconds: float) -> Sample:
    return Sample(ranks, n_bytes, Spread.of([seconds]))


def samples(algorithm: str, ranks: tuple[int, ...]) -> list[Sample]:
    model = CostModel(algorithm, A, B, G)
    return [sample(p, n, model.seconds(p, n)) for p in ranks for n in SIZES]


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


def timings(
    algorithm: str, ranks: tuple[int, ...], traffic: Traffic = ALL_REDUCE, mpi: str = "Open MPI 5"
) -> dict[int, Timings]:
    model = CostModel(algorithm, A, B, G)
    return {p: Timings(traffic, list(SIZES), [[model.seconds(p, n)] for n in SIZES], G, mpi) for p in ranks}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_of_several_the_algorithm_that_fits_is_chosen(algorithm):
    model, _, why = calibrate(timings(algorithm, (2, 4, 8)))
    assert (model.algorithm, why) == (algorithm, "fits best")
    assert model.shares_link == (algorithm != "ring")
    model, _, _ = calibrate(timings(algorithm, (2, 4, 8), STARTED, "MPICH 4"))
    assert model.algorithm == algorithm


def test_two_ranks_cannot_tell_two_algorithms():
    _, fitted, why = calibrate(timings("Rabenseifner", (2,)))
    assert why == "fits best; two ranks cannot tell ring from Rabenseifner"
    assert max(abs(sample.error) for sample in fitted) < 1e-9


def test_what_is_known_is_not_guessed():
    model, fitted, why = calibrate(timings("recursive doubling", (2, 4, 8), STARTED))
    assert (model.algorithm, why) == ("ring", "which dist_llm has Open MPI use")
    assert max(abs(sample.error) for sample in fitted) > 0.05  # and its misfit is told
    exchange, _, why = calibrate(timings("ring", (2, 4), Traffic("all-to-all, all-gather", 1 << 20)))
    assert (exchange.algorithm, exchange.shares_link) == ("ring", True)
    assert why == "of which the operation's cost has the form"


def test_one_rank_has_nothing_to_calibrate():
    model, fitted, why = calibrate({1: Timings(ALL_REDUCE, [4], [[1e-6]], G, "")})
    assert (model, fitted) == (CostModel("ring", 0.0, 0.0, G), [])
    assert why.startswith("assumed")


def test_no_constant_is_negative():
    # Faster for large messages than additions alone would be: neither time can be below zero.
    model, fitted = fit([sample(2, 1 << 10, 1e-6), sample(2, 1 << 20, 2e-6)], "ring", G)
    assert model.latency_s >= 0
    assert model.s_per_byte >= 0
    assert max(abs(sample.error) for sample in fitted) > 0.1
    decreasing = [sample(2, 1 << 10, 1e-5), sample(2, 1 << 20, 1e-6)]
    assert fit(decreasing, "ring", 0.0)[0].s_per_byte == 0


def test_ranks_of_a_host_share_its_link_but_in_a_ring():
    for shares, factor in ((False, 1), (True, 4)):
        model = CostModel("ring", A, B, G, shares)
        alone = CostModel("ring", A, factor * B, G)
        assert model.seconds(8, 1 << 20, ranks_per_host=4) == pytest.approx(alone.seconds(8, 1 << 20))
