"""Whether the browser would find what the tests of pages say is not there."""

import pytest

from dist_llm.measuring.page import page
from dist_llm.measuring.tables import Section
from tests.measuring.browser import Browser, flaws, shown


def picture(inside: str) -> str:
    return f'<svg aria-label="words" viewBox="0 0 400 200">{inside}<text x="9" y="190">words</text></svg>'


LINE = '<path d="M0 45h400" stroke="#000"/>'


@pytest.mark.parametrize(
    ("body", "flaw"),
    [
        ("<p style='width: 500px'>wide</p>", "beyond the screen"),
        ("<p style='width: 50px; overflow: hidden; white-space: nowrap'>longer than it is wide</p>", "cut off: longer"),
        ("<p style='color: #999'>pale</p>", "pale (2.85): pale"),
        ("<div style='background: #777'><p style='color: #888'>pale</p></div>", "pale (1.26): pale"),
        ("<p style='font-size: 8px'>small</p>", "small (8px): small"),
        ("<p id='a'></p><p id='a'></p>", "several are called a"),
        ("<svg viewBox='0 0 400 200'></svg>", "no words"),
        (picture('<text x="380" y="50">cut off</text>'), "cut off in its picture: cut off"),
        (picture('<text x="50" y="50">one</text><text x="60" y="55">two</text>'), 'over "one"'),
        (picture('<text x="50" y="50" font-size="8">small</text>'), "small: small"),
        (picture('<text x="50" y="50" fill="#999">pale</text>'), "pale (2.85): pale"),
        (picture('<path d="M0 0h400v99h-400z"/><text x="50" y="50">dark</text>'), "pale (1.00): dark"),
        (picture(f'<g id="a-ideal">{LINE}</g><text x="50" y="50">word</text>'), "over a-ideal: word"),
        (picture('<g id="a-line-0"><path d="M0 9h400" stroke="#aaa"/></g>'), "a pale line (2.32)"),
    ],
)  # fmt: skip
def test_a_flaw_is_found(browser: Browser, body: str, flaw: str):
    (found,) = flaws(browser, f"<!DOCTYPE html><body style='margin: 0'>{body}", (400,), ("light",)).values()
    assert any(one.startswith(flaw) for one in found), found


def test_a_page_that_asks_for_something_fails(browser: Browser):
    with pytest.raises(AssertionError, match="elsewhere"), shown(browser, "<img src='http://elsewhere.invalid/a.png'>"):
        pass


def test_a_page_of_long_words_and_many_columns_has_none(browser: Browser):
    head = ("point", *(f"column {i}" for i in range(30)), "")
    rows = [head, ("a" * 100, *("123,456.7" for _ in range(30)), "a long remark " * 9)]
    parts = [Section("long " * 40, rows, (0, 31), ["w" * 300]), Section("a <b>", [("<i>", "n")]), Section("words")]
    assert flaws(browser, page("t" * 90, ["v" * 200, "RANKS LOSE", "NO VERDICT"], ["w" * 200], parts, [])) == {}
