"""The course in a real browser: formulas, links, telephones, the dark, the keyboard, and nothing from anywhere."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.course.test_pages import COURSE, LABS, PAGES

SOURCES = [path.relative_to(COURSE).with_suffix("") for path in (*PAGES, *LABS, COURSE / "index.md")]

OPEN = "document.querySelectorAll('details').forEach(details => details.open = true)"
WIDE = """[...document.querySelectorAll('.katex-display')].filter(box => box.scrollWidth > box.clientWidth)
          .map(box => box.textContent.slice(0, 60))"""


@contextmanager
def opened(browser: Browser, file: Path, width: int = 1280, scheme: str = "light") -> Iterator[Page]:
    """Open a page of the site from its folder; it must not ask for anything that is elsewhere."""
    asked, said = [], []
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(file.as_uri())
        yield page
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert said == []


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_page_is_readable_on_a_telephone_and_in_the_dark(site: Path, browser: Browser, source: Path):
    formulas = len(re.findall(r"\$\$", (COURSE / source).with_suffix(".md").read_text())) // 2
    for width, scheme in ((390, "light"), (1280, "dark")):
        with opened(browser, site / f"{source}.html", width, scheme) as page:
            page.evaluate(OPEN)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(WIDE) == []
            assert page.locator(".katex-display").count() >= formulas
            assert page.locator(".katex-error, .problematic").count() == 0
            assert page.locator(".math:not(:has(.katex))").all_inner_texts() == []
            assert page.locator("article .math", has_text="$").count() == 0
            broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth || !i.alt).map(i => i.src)"
            assert page.evaluate(broken) == []


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_it_is_for_those_too_who_listen_or_have_no_mouse(site: Path, browser: Browser, source: Path):
    with opened(browser, site / f"{source}.html", 800) as page:
        page.evaluate(OPEN)
        # Without asking for the style sheets again, which a page of a folder may not.
        found = Axe().run(page, options={"preload": False}).response["violations"]
    grave = [f"{v['id']}: {n['target']}" for v in found if v["impact"] in ("serious", "critical") for n in v["nodes"]]
    assert grave == []


def test_every_link_and_anchor_within_leads_somewhere(site: Path, browser: Browser):
    anchors: dict[Path, set[str]] = {}
    links: list[tuple[Path, str]] = []
    for source in SOURCES:
        file = site / f"{source}.html"
        with opened(browser, file) as page:
            anchors[file.resolve()] = set(page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)"))
            hrefs = page.evaluate("[...document.querySelectorAll('a[href]')].map(a => a.href)")
        links += [(file, href) for href in hrefs if href.startswith("file:")]
    assert links
    for file, href in links:
        path, anchor = urldefrag(href)
        target = Path(unquote(path.removeprefix("file://")).partition("?")[0]).resolve()
        assert target.exists(), f"{file.name}: {href}"
        assert not anchor or target not in anchors or unquote(anchor) in anchors[target], f"{file.name}: {href}"
