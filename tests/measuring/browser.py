"""Pages in a real browser: Chromium, without a window."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

WIDTHS, SCHEMES = (390, 800, 1280, 1920), ("light", "dark")
NAMES = ("chromium", "chromium-browser", "google-chrome")
# Without a sandbox, which root may not have, and without what a browser asks of its maker.
OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
FLAWS = (Path(__file__).parent / "flaws.js").read_text()


def start_browser() -> Iterator[Browser]:
    """Start a browser with an empty profile, and end it."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium found (on Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=OPTIONS)
        yield browser
        browser.close()


@contextmanager
def shown(browser: Browser, html: str, width: int = 1280) -> Iterator[Page]:
    """Show a page on a screen so wide; it must not ask for anything that is elsewhere."""
    asked = []
    with browser.new_context(viewport={"width": width, "height": 900}) as context:
        context.route("**/*", lambda route: route.abort())
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.set_content(html)
        yield page
    assert asked == [], asked


def flaws(
    browser: Browser, html: str, widths: Sequence[int] = WIDTHS, schemes: Sequence[str] = SCHEMES
) -> dict[tuple[int, str], list[str]]:
    """What a reader would see wrong in a page, by the screen's width and color scheme."""
    found = {}
    with shown(browser, html) as page:
        for width in widths:
            page.set_viewport_size({"width": width, "height": 900})
            # All of it at once: what is at a place can be asked of what is on the screen only.
            height = page.evaluate("document.documentElement.scrollHeight")
            page.set_viewport_size({"width": width, "height": height})
            for scheme in schemes:
                page.emulate_media(color_scheme=scheme)
                if seen := page.evaluate(FLAWS):
                    found[width, scheme] = seen
    return found
