"""The model on networks that are known: it finds their constants, foretells their steps, and refuses a wrong one."""

from dataclasses import replace

import pytest

from dist_llm.model.llama import Llama
from dist_llm.parallel.cost import CostModel
from dist_llm.parallel.strategy import Traffic
from dist_llm.scalability.analysis import SeriesResult
from dist_llm.scalability.model_check import Prediction, Validation, hold_out, is_close, joined, validate, why_not
from dist_llm.scalability.operations import Timings
from dist_llm.scalability.overlap import Beside, Overlap, simulate
from dist_llm.scalability.performance_model import Model, samples_of
from dist_llm.seeding import generator
from tests.scalability.synthetic import report, runs, study

ETHERNET = CostModel("ring", 50e-6, 8e-9, 1e-10)
TRAFFIC = Traffic("nonblocking all-reduce", 512_000, 18, overlaps=True)
SIZES = [1 << 10, 1 << 16, 128_000, 512_000]
FINAL = [(0.2, 0.25), (0.4, 0.45), (0.6, 0.65), (0.8, 0.85), (1.0, 1.0)]
PROGRESS, LOST_S_PER_BYTE = 0.85, 2e-9
WINDOW_S, MICRO_BATCH = 0.08, 2


def timings(
    ranks: tuple[int, ...] = (2, 4, 8), network: CostModel = ETHERNET, noise: float = 0.03
) -> dict[int, Timings]:
    """What a network gives to a measurement that is off by so much, at random."""
    rng = generator(1, "network")

    def noisy(seconds: float) -> list[float]:
        return (seconds * (1 + noise * rng.standard_normal(9))).tolist()

    def timed(p: int) -> Timings:
        alone_s, sent_bytes = 18 * network.seconds(p, 512_000), 18 * 512_000 * 2 * (p - 1) / p
        lost = LOST_S_PER_BYTE * sent_bytes / alone_s
        both_s = WINDOW_S / (1 - PROGRESS * lost)
        left_s = alone_s - PROGRESS * both_s
        beside = Beside(FINAL, sent_bytes, *map(noisy, (alone_s, left_s, WINDOW_S, both_s, both_s)))
        batches_s = [noisy(network.seconds(p, n)) for n in SIZES]
        return Timings(TRAFFIC, SIZES, batches_s, 1e-10, "Open MPI v5", p, beside=beside)

    return {p: timed(p) for p in ranks}


def steps(network: CostModel = ETHERNET, hosts: int = 0) -> SeriesResult:
    """A weak series whose steps have computation of 0.5 s, and wait for what the simulated buckets leave."""
    (made,) = report(runs({"1x1": 0.5, "2x1": 0.5, "4x1": 0.5}), points="1x1,2x1,4x1").series
    reference, *several = made.points
    points = [reference]
    for p in several:
        ready = Overlap(2, FINAL, 1.0, 0.0).ready(18)
        message_s = network.seconds(p.ranks, 512_000)
        lost = LOST_S_PER_BYTE * 512_000 * 2 * (p.ranks - 1) / p.ranks / message_s
        hidden = simulate(ready, WINDOW_S, message_s, PROGRESS, lost)
        compute_s, backward_s = 0.5 + hidden.slowed_s, WINDOW_S + hidden.slowed_s
        seconds = dict.fromkeys(p.seconds, 0.0) | {"compute": compute_s, "communication": hidden.exposed_s}
        step_s = replace(p.step_s, median=compute_s + hidden.exposed_s)
        points.append(
            replace(
                p,
                traffic=TRAFFIC,
                hosts=hosts or p.ranks,
                batch_size=2 * p.ranks,
                seconds=seconds,
                backward_s=backward_s,
                step_s=step_s,
            )
        )
    return replace(made, points=points)


def test_a_known_network_and_its_overlap_are_found_again():
    model, samples, why = Model.of(timings(), 0)
    assert why == "which dist_llm has Open MPI use"
    assert model.between.latency_s == pytest.approx(ETHERNET.latency_s, rel=0.1)
    assert model.between.s_per_byte == pytest.approx(ETHERNET.s_per_byte, rel=0.03)
    assert len(samples) == 12
    assert [overlap.ranks for overlap in model.overlaps] == [2, 4, 8]
    for overlap in model.overlaps:
        assert overlap.progress == pytest.approx(PROGRESS, rel=0.1)
        assert overlap.lost_s_per_byte == pytest.approx(LOST_S_PER_BYTE, rel=0.3)


def test_the_steps_of_a_known_network_are_foretold():
    model, samples, _ = Model.of(timings(), 0)
    found = validate(steps(), model, MICRO_BATCH)
    assert [(v.point, v.ranks, v.hosts) for v in found] == [("2x1", 2, 2), ("4x1", 4, 4)]
    for v in found:
        least_s, most_s = v.communication.predicted_s
        assert least_s == most_s  # a figure, and no range
        assert abs(v.communication.error) < 0.15
        assert abs(v.step.error) < 0.02
    assert is_close(found)
    assert why_not(samples, None, found) == ""


def test_what_is_held_out_is_foretold_from_half_as_many_ranks():
    held_out = hold_out(timings((2, 4)), 0, [steps()], MICRO_BATCH)
    assert (held_out.ranks, held_out.fitted_to) == (4, [2])
    assert held_out.operation.measured_s == pytest.approx(ETHERNET.seconds(4, 512_000), rel=0.05)
    assert 0 < abs(held_out.operation.error) < 0.05
    (step,) = held_out.steps
    assert step.point == "4x1"
    assert abs(step.step.error) < 0.03
    assert hold_out(timings((2, 4, 8)), 0, [], MICRO_BATCH).fitted_to == [2, 4]


def test_nothing_is_held_out_where_there_is_nothing_to_fit_to():
    assert hold_out(timings((2,)), 0, [steps()], MICRO_BATCH) is None
    assert hold_out(timings((2, 3)), 0, [steps()], MICRO_BATCH) is None
    two, four = timings((2, 4)).values()
    assert hold_out({2: replace(two, hosts=1), 4: four}, 0, [], MICRO_BATCH) is None  # two in a host: another model
    assert hold_out({2: two, 4: replace(four, oversubscribed=True)}, 0, [], MICRO_BATCH) is None
    assert hold_out({2: replace(two, oversubscribed=True)}, 0, [], MICRO_BATCH) is None


def test_a_network_that_is_no_ring_is_refused():
    """Of more than two ranks they get into each other's way."""
    jammed = replace(ETHERNET, s_per_byte=3 * ETHERNET.s_per_byte)
    measured = timings((2,)) | timings((4,), jammed)
    _, samples, _ = Model.of(measured, 0)
    held_out = hold_out(measured, 0, [], MICRO_BATCH)
    assert held_out.operation.error == pytest.approx(-0.66, abs=0.05)
    where = "the operation of 4 ranks, when fitted to 2 ranks"
    off = f"{100 * held_out.operation.error:+.0f} %"
    assert why_not(samples, held_out, []) == f"the model is {off} off {where}, and 25 % is allowed"


def test_timings_that_no_constants_fit_are_refused():
    measured = timings((2,))
    disturbed = [[1e-2 if n < 1 << 16 else s for s in of] for n, of in zip(SIZES, measured[2].batches_s, strict=True)]
    _, samples, _ = Model.of({2: replace(measured[2], batches_s=disturbed)}, 0)
    assert why_not(samples, None, []).endswith(
        " % off the operations that it was fitted to, on average, and 25 % is allowed"
    )


def one(error: float, hosts: int = 2) -> Validation:
    step = Prediction(1.0, [1 + error, 1 + error], error)
    return Validation("strong", "4x1", 4, hosts, step, step)


def test_steps_that_are_not_foretold():
    assert why_not([], None, [one(0.24)]) == ""
    assert why_not([], None, [one(0.1), one(-0.3)]) == (
        "the model is -30 % off the step of strong 4x1, and 25 % is allowed"
    )
    assert is_close([one(0.1), one(-0.1), one(0.2, hosts=1)])
    assert not is_close([one(0.1), one(-0.11)])
    assert not is_close([one(0.0, hosts=1)])  # inside a host nothing is hidden, and nothing is learned


def test_inside_a_host_communication_is_all_exposed():
    inside = {p: replace(t, hosts=1, beside=None) for p, t in timings((2, 4)).items()}
    model, _, _ = Model.of(inside, 0)
    assert model.inside == model.between
    for v in validate(steps(hosts=1), model, MICRO_BATCH):
        total_s = model.total_s(TRAFFIC, v.ranks, v.ranks)
        assert v.communication.predicted_s == [total_s, total_s]
        assert total_s == pytest.approx(18 * ETHERNET.seconds(v.ranks, 512_000), rel=0.05)


def test_inside_a_host_and_between_hosts_constants_are_not_mixed():
    memory = CostModel("ring", 1e-6, 1e-10, 1e-10)
    inside = {p: replace(t, hosts=1, beside=None) for p, t in timings((2, 4), memory).items()}
    model, samples, _ = Model.of(inside | timings((8,)), 0)
    assert model.inside.s_per_byte == pytest.approx(1e-10, rel=0.1)
    assert model.between.s_per_byte == pytest.approx(8e-9, rel=0.1)
    assert max(abs(sample.error) for sample in samples) < 0.1
    assert model.total_s(TRAFFIC, 4, 4) < 0.1 * model.total_s(TRAFFIC, 4, 1)


def test_ranks_that_took_turns_on_cores_say_nothing():
    two, four = timings((2, 4)).values()
    slow = replace(four, batches_s=[[10.0]] * len(SIZES), oversubscribed=True)
    model, _, _ = Model.of({2: two, 4: slow}, 0)
    assert model == Model.of({2: two}, 0)[0]
    assert [s.ranks for s in samples_of({2: two, 4: slow})] == [2] * len(SIZES)
    _, samples, why = Model.of({4: slow}, 0)
    assert (samples, why) == ([], "assumed: nothing was measured on several ranks")


def test_ranks_as_words():
    assert [joined([2]), joined([2, 4]), joined([2, 4, 8])] == ["2", "2 and 4", "2, 4 and 8"]


def test_updates_that_ranks_share_out_are_sent_too():
    """Behind the reductions, with nothing to hide them: half a ring of so many bytes, without additions."""
    without, *_ = Model.of(timings(), 0)
    muon, *_ = Model.of(timings(), 8_000_000)
    ring = without.between
    more_s = 3 * ring.latency_s + 0.75 * 8_000_000 * ring.s_per_byte
    assert muon.total_s(TRAFFIC, 4, 1) - without.total_s(TRAFFIC, 4, 1) == pytest.approx(more_s)
    for overlaps in (without.overlaps, []):
        one, other = (replace(m, overlaps=overlaps).exposed_s(TRAFFIC, 4, 1, WINDOW_S) for m in (without, muon))
        assert [b - a for a, b in zip(one, other, strict=True)] == pytest.approx([more_s, more_s])


@pytest.mark.parametrize(
    ("optimizer", "strategy", "shared"),
    [("muon", "overlapped", True), ("muon", "blocking", True), ("muon", "sharded", False), ("muon", "local", False),
     ("adamw", "overlapped", False)],
)  # fmt: skip
def test_which_updates_ranks_share_out(optimizer, strategy, shared):
    made = study([])
    made.config = made.config.replace({"optim": {"optimizer": optimizer}, "parallel": {"strategy": strategy}})
    params = Llama(made.config.model, 512).params
    matrices = sum(param.size for param in params if param.role == "hidden")
    assert made.gathered_bytes == (4 * matrices if shared else 0)
