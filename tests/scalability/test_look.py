"""What readers of a report see: its page in a real browser, on a phone and on wide screens, light and dark."""

from itertools import pairwise

import pytest

from dist_llm.measuring.page import page
from dist_llm.scalability.comparison import compare
from dist_llm.scalability.figures import draw_report
from dist_llm.scalability.report import Report
from dist_llm.scalability.sections import sections
from tests.measuring.browser import Browser, flaws, shown
from tests.scalability.odd_reports import REPORTS, random_report

pytest.importorskip("matplotlib")


def html(report: Report) -> str:
    picture = draw_report(report)
    title = f"Scaling on {report.environment.host}"
    return page(title, report.verdict, report.warnings, sections(report), picture.panels if picture else [])


@pytest.mark.parametrize("name", REPORTS)
def test_nothing_is_cut_off_too_pale_or_over_something_else(browser: Browser, name: str):
    assert flaws(browser, html(REPORTS[name]())) == {}


@pytest.mark.parametrize("seed", range(6))
def test_nor_in_any_other_report(browser: Browser, seed: int):
    assert flaws(browser, html(random_report(seed)), widths=(390, 1280), schemes=("light",)) == {}


def test_a_comparison_is_shown_as_well(browser: Browser):
    old, new = REPORTS["few points"](), REPORTS["long names"]()
    assert flaws(browser, page("Two scaling reports side by side", (), (), [compare(old, new)], [])) == {}


@pytest.mark.parametrize(("width", "in_a_row"), [(390, 1), (800, 2), (1280, 2), (1920, 2)])
def test_panels_stand_below_one_another_on_a_phone_and_side_by_side_elsewhere(
    browser: Browser, width: int, in_a_row: int
):
    with shown(browser, html(REPORTS["few points"]()), width) as page:
        boxes = [figure.bounding_box() for figure in page.query_selector_all("figure")]
    assert len(boxes) == 4
    for i, box in enumerate(boxes):
        assert (box["x"] == boxes[0]["x"]) == (i % in_a_row == 0)
        assert i < in_a_row or box["y"] > boxes[i - in_a_row]["y"]


def test_on_a_phone_a_row_is_a_card_in_which_every_figure_has_its_name(browser: Browser):
    with shown(browser, html(REPORTS["few points"]()), 390) as page:
        table = page.query_selector("table")
        assert table.query_selector("thead").bounding_box()["width"] == 1  # for those who listen
        cell = table.query_selector("tbody td:nth-child(2)")
        named = cell.evaluate("cell => getComputedStyle(cell, '::before').content")
        rows = [row.bounding_box() for row in table.query_selector_all("tbody tr")]
    assert named == '"cores "'
    assert all(below["y"] > above["y"] + above["height"] for above, below in pairwise(rows))
