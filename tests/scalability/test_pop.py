"""POP's factors of runs whose truth is known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from dist_llm.measuring.hardware_counters import HardwareCounts
from dist_llm.scalability.points import Point
from dist_llm.scalability.pop import factors
from dist_llm.scalability.runs import Run
from dist_llm.seeding import generator
from tests.scalability.synthetic import one_run

ONE = {0: one_run(0, Point(1, 1), 1.0)}


def wait(run: Run, rank: int, imbalance: float, communication: float) -> None:
    """Set the shares of its time that a rank waited."""
    seconds, total_s = run.ranks[rank].seconds, run.seconds
    seconds["imbalance"], seconds["communication"] = imbalance * total_s, communication * total_s


def test_each_loss_is_found_in_its_factor():
    # A step of 0.625 s on two ranks. Rank 0 computes for 60 % of it and waits 20 % for rank 1, which computes for
    # 80 %; the data then take another 15 %, and rank 1 waits for 5 % more.
    run = one_run(0, Point(2, 1), 0.625)
    wait(run, 0, 0.25, 0.15)
    wait(run, 1, 0.0, 0.20)
    found = factors({0: run}, ONE)
    assert found.load_balance.median == pytest.approx(0.7 / 0.8)
    assert found.transfer.median == pytest.approx(0.85)
    assert found.serialisation.median == pytest.approx(0.8 / 0.85)
    assert found.communication_efficiency.median == pytest.approx(0.8)
    assert found.parallel_efficiency.median == pytest.approx(0.7)
    # One rank computes 1 s, two together 0.625 s x 1.4.
    assert found.computation_scaling.median == pytest.approx(1 / (0.625 * 1.4))
    assert found.global_efficiency.median == pytest.approx(1 / (2 * 0.625))
    assert found.product_error == pytest.approx(0.0)
    assert found.agrees


@pytest.mark.parametrize("point", [Point(4, 1), Point(2, 2), Point(1, 4)])
@pytest.mark.parametrize("reference", [Point(1, 1), Point(2, 1)])
def test_factors_multiply_to_the_measured_efficiency(point: Point, reference: Point):
    rng = generator(point.ranks, "pop")
    runs = {Point(point.ranks, point.threads): {}, reference: {}}
    for number in range(9):
        for p, rounds in runs.items():
            rounds[number] = one_run(number, p, float(0.3 * (1 + 0.1 * rng.random())), batch_size=8 * p.ranks)
            for rank in range(p.ranks if p.ranks > 1 else 0):
                wait(rounds[number], rank, *(0.02 * rng.random(2)))
    found = factors(runs[point], runs[reference])
    for number in range(9):
        parts = (found.load_balance, found.serialisation, found.transfer, found.computation_scaling)
        product = math.prod(part.rounds[number] for part in parts)
        run, base = runs[point][number], runs[reference][number]
        efficiency = run.tokens_per_s(1) / point.cores / (base.tokens_per_s(1) / reference.cores)
        base_parallel = np.mean([rank.useful_s for rank in base.ranks]) / base.seconds
        assert product == pytest.approx(efficiency * base_parallel)
        assert max(part.rounds[number] for part in parts[:3]) <= 1
    assert found.agrees


def test_rounds_that_differ_too_much_are_told():
    # Where load balance is bad, scaling is good, and the other way round: no round is like the medians.
    rounds = {}
    for number in range(7):
        good = number % 2 == 0
        rounds[number] = one_run(number, Point(2, 1), 0.5 if good else 0.6)
        wait(rounds[number], 0, 0.4 if good else 0.0, 0.0)
    ones = {number: one_run(number, Point(1, 1), 1.0) for number in range(7)}
    ones[0] = one_run(0, Point(1, 1), 2.0)
    found = factors(rounds, ones)
    assert found.agrees == (abs(found.product_error) <= 0.01)
    worse = factors({n: r for n, r in rounds.items() if n < 4}, ones)
    assert not worse.agrees


def test_without_a_round_in_common_there_are_none():
    assert factors({1: one_run(1, Point(2, 1), 0.5)}, ONE) is None


def counted(run: Run, instructions: float, cycles: float) -> Run:
    """Return a run on each of whose ranks the processor has counted this for each step."""
    steps = run.steps + run.warm_up_steps
    counts = HardwareCounts(instructions * steps, cycles * steps, 0.5)
    return replace(run, ranks=[replace(rank, counts=counts, counted_s=rank.useful_s) for rank in run.ranks])


def test_computation_scaling_falls_apart_where_the_processor_counts():
    # On two ranks each has half of the sequences. It needs a tenth more instructions for them, takes 1.25 times the
    # cycles for each, and has a fifth less of those in a second: 1 s on one rank, 0.5 x 1.1 x 1.25 / 0.8 s on two.
    one = counted(one_run(0, Point(1, 1), 1.0), 4e9, 2e9)
    two = counted(one_run(0, Point(2, 1), 0.5 * 1.1 * 1.25 / 0.8), 2e9 * 1.1, 1e9 * 1.1 * 1.25)
    found = factors({0: two}, {0: one})
    of = found.processor
    assert of.instructions_scaling.median == pytest.approx(1 / 1.1)
    assert of.ipc_scaling.median == pytest.approx(1 / 1.25)
    assert of.frequency_scaling.median == pytest.approx(0.8)
    product = of.instructions_scaling.median * of.ipc_scaling.median * of.frequency_scaling.median
    assert product == pytest.approx(found.computation_scaling.median)
    assert of.counted_share == 0.5


def test_without_counters_the_reason_is_told():
    assert factors({0: one_run(0, Point(2, 1), 0.5)}, ONE).processor == "no counters here"
