from dataclasses import replace

import numpy as np
import pytest

from dist_llm.measuring.spread import Spread
from dist_llm.parallel.cost import Network
from dist_llm.scalability.learning_run import EVALUATIONS, LearningRun
from dist_llm.scalability.report import make_report
from dist_llm.scalability.sections import sections
from dist_llm.scalability.time_to_loss import steps_to_loss
from dist_llm.seeding import generator
from tests.scalability.synthetic import MACHINE, learning_run, report, runs

# To a loss of 3: 24 steps of 4 sequences, 15 of 8, and 16 sequences do not come to it.
LEARNED = [
    learning_run(4, [6.0, 4.0, 3.2, 2.7]),
    learning_run(8, [6.0, 4.0, 2.0]),
    learning_run(16, [6.0, 5.0, 3.5, 3.25]),
]
QUIET = (1,) * 6


def made(**changes):
    """Steps of 4 sequences take 0.6 and 0.5 s on one and two ranks, those of 8 take 1 and 0.6 s, of 16 2 and 1 s."""
    measured = [
        *runs({"1x1": 0.6, "2x1": 0.5}, QUIET, batch_size=4),
        *runs({"1x1": 1.0, "2x1": 0.6}, (0.9, 0.95, 1.0, 1.0, 1.05, 1.1), batch_size=8),
        *runs({"1x1": 2.0, "2x1": 1.0}, QUIET, batch_size=16),
    ]
    return report(measured, points="1x1,2x1", **{"learned": LEARNED} | changes)


def test_where_a_straight_line_crosses_is_exact():
    found = steps_to_loss(LEARNED[0], 3.0)
    assert (found.steps, found.least, found.most) == (pytest.approx(24.0), 20, 30)
    assert steps_to_loss(LEARNED[1], 2.0).steps == 20
    assert steps_to_loss(LEARNED[2], 3.0) is None
    assert steps_to_loss(learning_run(8, [2.9]), 3.0).steps == 0


def test_the_crossing_of_a_learning_curve_is_known_to_a_few_per_cent_of_the_run():
    """Curves as they are: a power law. The truth is between the evaluations, and near where it is interpolated."""
    rng = generator(1, "learning curves")
    for _ in range(500):
        floor, slope, onset, budget = rng.uniform(1, 2), rng.uniform(0.3, 0.8), rng.uniform(5, 50), 640
        steps = np.arange(0, budget + 1, budget // EVALUATIONS)
        truth = rng.uniform(0.1, 1) * budget
        loss, losses = (floor + 4 * (1 + at / onset) ** -slope for at in (truth, steps))
        last = int(np.argmax(losses <= loss))
        run = LearningRun(8, "1x1", 1e-3, budget, steps[: last + 1].tolist(), losses[: last + 1].tolist(), [])
        found = steps_to_loss(run, loss)
        assert found.least <= truth <= found.most
        assert found.most - found.least <= 0.04 * budget
        assert abs(found.steps - truth) <= 0.01 * budget


def test_time_is_steps_times_the_time_of_a_step():
    small, usual, large = made().to_loss.batches
    assert [(p.point, p.seconds.median) for p in small.points] == [
        ("1x1", pytest.approx(24 * 0.6)),
        ("2x1", pytest.approx(24 * 0.5)),
    ]
    one, two = usual.points
    assert one.seconds.median == pytest.approx(15 * 1.0)
    assert one.core_seconds.median == pytest.approx(15 * 1.0)
    assert two.seconds.median == pytest.approx(15 * 0.6)
    assert two.core_seconds.median == pytest.approx(2 * 15 * 0.6)
    # The interval is that of six rounds, whose ends are the extremes but for a little.
    low, high = two.seconds.interval
    assert 15 * 0.6 * 0.9 < low < 15 * 0.6 * 0.95
    assert 15 * 0.6 * 1.05 < high < 15 * 0.6 * 1.1
    assert two.range_s == [pytest.approx(low * 10 / 15), pytest.approx(high * 20 / 15)]
    assert two.energy_j == "no RAPL here"
    assert (large.reached, large.points, large.best_loss) == (None, [], 3.25)


def test_energy_where_it_is_known():
    measured = [replace(run, step_energy_j=40.0) for run in runs({"1x1": 1.0, "2x1": 0.6}, QUIET)]
    found = report(measured, points="1x1,2x1", learned=[LEARNED[1]])
    (batch,) = found.to_loss.batches
    assert [p.energy_j for p in batch.points] == [Spread.of([15 * 40.0] * 6)] * 2
    table = sections(found)[1]
    assert table.rows[0][-1] == "kJ (95 %)"
    assert table.rows[1][-1] == "0.6 (0.6..0.6)"


def test_points_in_doubt_give_no_result_and_are_named():
    measured = runs({"1x1": 1.0}) + runs({"2x1": 0.6}, disturbance=0.5) + runs({"4x1": 0.3}, warning="take turns")
    found = report(measured, points="1x1,2x1,4x1", learned=[LEARNED[1]])
    (batch,) = found.to_loss.batches
    assert [p.point for p in batch.points] == ["1x1"]
    assert batch.doubts == {"2x1": "other work disturbed 6 of 6 runs", "4x1": "oversubscribed"}
    text = " ".join(sections(found)[1].text().split())
    assert "batch 8, without results: 2x1 (other work disturbed 6 of 6 runs), 4x1 (oversubscribed)" in text


def test_the_batch_that_is_first_and_the_usual_one_where_none_is():
    """On one rank 8 sequences take 15 s and 4 take 14.4: evaluations are too far apart to tell."""
    to_loss = made().to_loss
    assert to_loss.best_batch("1x1", usual=8)[0].batch_size == 8
    assert to_loss.best_batch("1x1", usual=4)[0].batch_size == 4
    assert to_loss.best_batch("1x1", usual=16)[0].batch_size == 4
    assert to_loss.best_batch("4x1", usual=8) is None
    near = [learning_run(4, [6.0, 4.0, 3.2, 2.7], 100), learning_run(8, [3.1, 3.05, 3.01, 2.99], 5)]
    best, point = made(learned=near).to_loss.best_batch("2x1", usual=4)
    assert (best.batch_size, point.seconds.median) == (8, pytest.approx(12.5 * 0.6))


def test_the_table():
    table = sections(made())[1]
    assert table.title == "to a validation loss of 3"
    assert [row[0] for row in table.rows[1:]] == ["4 on 1x1", "4 on 2x1", "8 on 1x1", "8 on 2x1"]
    assert table.rows[2][1:] == ("2", "12.0 (12.0..12.0)", "24.0 (24.0..24.0)")
    text = table.text()
    assert "batch 8, lr 0.002: reached after 15 steps (between 10 and 20), 0.012 M tokens" in text
    assert "batch 16, lr 0.002: NOT REACHED in 320 steps; the best loss was 3.2500" in text
    assert "all had 2,400 sequences at most" in text
    assert report().to_loss is None


def test_what_never_learned_is_said():
    study = made().measurements
    study.learned.clear()
    found = make_report(study, MACHINE, "", [Network(25, 10)])
    assert found.to_loss.batches == []
    assert "no batch size has learned" in sections(found)[1].text()
