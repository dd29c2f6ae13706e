"""The course in a real browser: formulas, links, telephones, the dark, the keyboard, and nothing from anywhere."""

import codeop
import doctest
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.course.test_pages import COURSE, LABS, PAGES
from tests.measuring.browser import SCHEMES, WIDTHS

SOURCES = [path.relative_to(COURSE).with_suffix("") for path in (*PAGES, *LABS, COURSE / "index.md")]

OPEN = "document.querySelectorAll('details').forEach(details => details.open = true)"
WIDE = """[...document.querySelectorAll('.katex-display')].filter(box => box.scrollWidth > box.clientWidth)
          .map(box => box.textContent.slice(0, 60))"""
# Without asking for the style sheets again, as no file may, and without the thousands of boxes of formulas, which are
# read out as MathML.
AXE = {"preload": False, "resultTypes": ["violations"]}
PARTS = {"exclude": [[".katex-html"]]}
BROKEN = "[...document.images].filter(i => !i.complete || !i.naturalWidth || !i.alt).map(i => i.src)"
# What is on the page in each such part, and what the page's script puts into the clipboard if all of it is copied.
COPIED = """parts => [...document.querySelectorAll(parts)].map(block => {
              getSelection().selectAllChildren(block);
              const clipboardData = new DataTransfer();
              block.dispatchEvent(new ClipboardEvent('copy', {clipboardData, bubbles: true, cancelable: true}));
              return [block.textContent, clipboardData.getData('text/plain')];
            })"""


@pytest.fixture(scope="module", params=SOURCES, ids=str)
def source(request: pytest.FixtureRequest) -> Path:
    """A page of the course, without its ending."""
    return request.param


@pytest.fixture(scope="module")
def page(site: Path, browser: Browser, source: Path) -> Iterator[Page]:
    """It, opened from the site's folder; it must not ask for anything that is elsewhere, nor complain."""
    asked, said = [], []
    with browser.new_context() as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((site / f"{source}.html").as_uri())
        page.evaluate(OPEN)
        yield page
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert said == []


def test_its_formulas_are_set(page: Page, source: Path):
    text = (COURSE / source).with_suffix(".md").read_text()
    assert page.locator(".katex-display").count() >= text.count("$$") // 2
    assert page.locator(".katex-error, .problematic").count() == 0
    assert page.locator(".math:not(:has(.katex))").all_inner_texts() == []
    assert page.locator("article .math", has_text="$").count() == 0


def test_it_is_readable_on_a_telephone_and_in_the_dark(page: Page):
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(WIDE) == []
            assert page.evaluate(BROKEN) == []


def test_it_is_for_those_too_who_listen_or_have_no_mouse(page: Page):
    page.set_viewport_size({"width": 800, "height": 900})
    grave = []
    for scheme, rules in (("light", {}), ("dark", {"runOnly": ["color-contrast"]})):  # no other rule is of colors
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page, PARTS, AXE | rules).response["violations"]
        worst = [v for v in found if v["impact"] in ("serious", "critical")]
        grave += [f"{scheme}, {v['id']}: {n['target']}" for v in worst for n in v["nodes"]]
    assert grave == []


def test_its_links_and_anchors_lead_somewhere(page: Page, site: Path):
    hrefs = page.evaluate("[...document.querySelectorAll('a[href]')].map(a => a.href)")
    within = [href for href in hrefs if href.startswith("file:")]
    assert within
    for href in within:
        path, anchor = urldefrag(href)
        target = Path(unquote(path.removeprefix("file://")).partition("?")[0])
        assert target.is_relative_to(site), href
        assert target.exists(), href
        assert not anchor or f'id="{unquote(anchor)}"' in target.read_text(), href


def typed(lines: str) -> list[str]:
    """Return what Python, at its prompt, takes as the statements of these lines."""
    compiled = codeop.CommandCompiler()
    waiting: list[str] = []
    found: list[str] = []
    for line in lines.splitlines():
        waiting.append(line)
        if compiled("\n".join(waiting)) is not None:
            found.append("\n".join(waiting).strip())
            waiting = []
    assert waiting == []
    return [statement for statement in found if statement]


def test_what_is_copied_can_be_pasted_into_python(page: Page):
    for text, copied in page.evaluate(COPIED, "article pre"):
        if ">>> " in text:
            assert typed(copied) == [example.source.strip() for example in doctest.DocTestParser().get_examples(text)]
        elif text.startswith("$ "):
            assert text.startswith(f"$ {copied.splitlines()[0]}\n")
            assert copied.count("\n") == text.count("\n$ ") + text.count("\\\n") + 1
        else:
            assert copied == ""  # as it is
    for text, copied in page.evaluate(COPIED, "article"):
        assert text
        assert copied == ""  # not without the words between
