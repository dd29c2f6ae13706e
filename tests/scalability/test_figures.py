import re
from dataclasses import replace

import pytest

from dist_llm.scalability.figures import draw_report
from tests.scalability.odd_reports import REPORTS
from tests.scalability.synthetic import learning_run, report, runs

pytest.importorskip("matplotlib")


def words(svg: str) -> list[str]:
    return re.findall(r">([^<>]+)</text>", svg)


def test_the_picture_holds_the_numbers_too():
    made = report()
    picture = draw_report(made)
    assert picture.png.startswith(b"\x89PNG")
    speed_ups, efficiencies, shares, projected = (panel.svg for panel in picture.panels)
    two, four = (p for p in made.series[0].points if p.ranks > 1)
    assert {two.speed_up.middle(2), f"strong: {four.speed_up.middle(2)}", "ideal"} <= set(words(speed_ups))
    assert {two.efficiency.middle(1, 100), f"strong: {four.efficiency.middle(1, 100)}"} <= set(words(efficiencies))
    for p in made.series[0].points:
        assert p.shares["compute"].middle(1, 100) in words(shares)
    assert "25 us, 10 Gbit/s" in words(projected)
    for panel in picture.panels:  # and to those who do not see it
        said = re.search('aria-label="(.*?)"', panel.svg)[1]
        assert said.startswith(panel.title.split(",")[0])
    assert f"strong: 1.00 on 1 core, {two.speed_up.middle(2)} on 2 cores" in speed_ups


def test_the_time_to_a_loss_is_a_line_for_each_batch_size_that_came_to_it():
    measured = [
        run
        for size, step_s in ((4, 0.6), (8, 1.0), (16, 2.0))
        for run in runs({"1x1": step_s, "2x1": step_s / 1.6, "1x2": step_s}, batch_size=size)
    ]
    learned = [learning_run(4, [6, 4, 2]), learning_run(8, [6, 5, 4, 2]), learning_run(16, [6, 5])]
    made = report(measured, points="1x1,2x1,1x2", learned=learned)
    panel = draw_report(made).panels[-1]
    assert panel.title == "seconds to a loss of 3, with 95 % intervals"
    for batch in made.to_loss.batches[:2]:
        assert f"batch {batch.batch_size}: {batch.points[1].seconds.middle(1)}" in words(panel.svg)
    assert not [word for word in words(panel.svg) if word.startswith("batch 16")]
    unreached = draw_report(report(measured, points="1x1,2x1,1x2", learned=learned[2:]))
    assert not [panel for panel in unreached.panels if "seconds" in panel.title]


def test_the_same_report_gives_the_same_picture():
    assert draw_report(report()) == draw_report(report())


def test_there_are_intervals_where_there_are_rounds_enough():
    made = REPORTS["few points"]()
    assert [panel.title for panel in draw_report(made).panels] == [
        "speed-up over 1x1, with 95 % intervals",
        "efficiency, %, with 95 % intervals",
        "where the time goes",
        "projected weak efficiency, % (not measured)",
    ]


def test_every_line_has_its_name_however_crowded_it_is():
    for panel in draw_report(REPORTS["all lines are one"]()).panels[:2]:
        for name in ("strong", "weak", "one process"):
            assert [word for word in words(panel.svg) if re.fullmatch(rf"{name}: [\d.]+", word)]


def test_what_has_no_result_is_marked_as_such_and_no_part_of_a_line():
    speed_ups, _, shares, _ = draw_report(REPORTS["disturbed"]()).panels
    assert "strong: 1.95" in words(speed_ups.svg)  # ends at two ranks
    assert "strong 4x1 (no result)" in words(shares.svg)
    assert [panel.title for panel in draw_report(REPORTS["too few rounds"]()).panels] == ["where the time goes"]


def test_what_is_oversubscribed_is_marked_likewise():
    speed_ups, _, shares, _ = draw_report(REPORTS["oversubscribed"]()).panels
    assert "8" not in words(speed_ups.svg)
    assert "strong 8x1 (oversubscribed)" in words(shares.svg)


def test_nothing_is_drawn_of_nothing():
    assert draw_report(replace(report(), series=[], communication=None)) is None


def test_a_report_of_one_point_has_no_lines_over_cores():
    titles = [panel.title for panel in draw_report(REPORTS["one point"]()).panels]
    assert titles[0] == "where the time goes"
