"""What a reader sees and can do: the page in a real browser, by mouse, touch and keyboard, and for those who listen."""

import base64
import re
import zlib

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from dist_llm.explaining.page import page
from dist_llm.explaining.trace import trace
from tests.explaining import language_model
from tests.measuring.browser import Browser, Page, flaws, shown

TEXT = "A list,\n\tthen é and ␣ \u202e and a_very_long_name.\n"


@pytest.fixture(scope="module")
def html() -> str:
    lm = language_model(n_heads=6, n_layers=5)
    lm.state["step"] = 12_000
    return page(trace(lm, TEXT), lm, "runs/run-001")


def ready(page: Page) -> Page:
    """The page when its maps are drawn."""
    page.wait_for_selector("#attended li")
    return page


def token(page: Page, place: int):
    return page.locator("[role=option]").nth(place)


def chosen(page: Page) -> int:
    return page.evaluate("[...document.querySelectorAll('[role=option]')].findIndex((o) => o.matches('.chosen'))")


def test_nothing_is_cut_off_or_too_pale(browser: Browser, html: str):
    assert flaws(browser, html) == {}


def test_nor_in_a_text_of_one_token_by_a_model_of_one_layer(browser: Browser):
    lm = language_model(n_layers=1, n_heads=1, dim=2, tie_embeddings=False)
    assert (
        flaws(browser, page(trace(lm, "a"), lm, "a/very/long/name/" * 5), widths=(390, 1280), schemes=("dark",)) == {}
    )


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_axe_finds_nothing_serious(browser: Browser, html: str, width: int, scheme: str):
    with shown(browser, html, width) as page:
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(ready(page)).response["violations"]
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found if rule["impact"] in ("serious", "critical")] == []


def test_a_token_under_the_pointer_is_shown_and_a_click_keeps_it(browser: Browser, html: str):
    with shown(browser, html) as page:
        ready(page)
        opened = chosen(page)
        bits = page.locator(".all td:nth-child(3)").all_inner_texts()
        assert opened == max(range(1, len(bits)), key=lambda place: float(bits[place]))
        token(page, 3).hover()
        assert chosen(page) == 3
        assert (
            page.locator("#surprise").inner_text().startswith(token(page, 3).get_attribute("aria-label").split(", ")[1])
        )
        assert len(page.locator("#next li").all()) in (8, 9)
        assert page.locator("#next .found").count() == 1
        page.mouse.move(5, 5)
        assert chosen(page) == opened
        token(page, 3).click()
        page.mouse.move(5, 5)
        assert chosen(page) == 3
        assert token(page, 3).get_attribute("aria-selected") == "true"
        assert page.locator("[aria-selected=true]").count() == 1


def test_a_finger_chooses_as_well(browser: Browser, html: str):
    with browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True) as context:
        page = context.new_page()
        page.set_content(html)
        token(ready(page), 4).tap()
        assert chosen(page) == 4
        page.locator("#maps label").nth(7).tap()
        assert page.locator("#head-title").inner_text() == "Layer 2, head 2"


def test_the_keyboard_reaches_every_token_and_head(browser: Browser, html: str):
    with shown(browser, html) as page:
        ready(page)
        last = page.locator("[role=option]").count() - 1
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == f"token-{chosen(page)}"
        for key, place in [("Home", 0), ("ArrowLeft", 0), ("ArrowRight", 1), ("End", last), ("ArrowLeft", last - 1)]:
            page.keyboard.press(key)
            assert (chosen(page), page.evaluate("document.activeElement.id")) == (place, f"token-{place}")
        below = token(page, last - 1).bounding_box()["y"]
        page.keyboard.press("ArrowUp")
        assert token(page, chosen(page)).bounding_box()["y"] < below - 10
        page.keyboard.press("ArrowDown")
        assert token(page, chosen(page)).bounding_box()["y"] == pytest.approx(below, abs=3)
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(outline) == "solid"
        page.keyboard.press("Tab")
        for key, head in [("ArrowRight", 14), ("ArrowDown", 20), ("ArrowDown", 26), ("ArrowUp", 20), ("ArrowLeft", 19)]:
            page.keyboard.press(key)
            assert page.locator("#head-title").inner_text() == f"Layer {(head - 1) // 6 + 1}, head {(head - 1) % 6 + 1}"
        assert page.evaluate("getComputedStyle(document.activeElement.parentElement).outlineWidth") == "3px"


def test_the_chosen_token_of_a_long_text_is_in_sight(browser: Browser):
    lm = language_model()
    with shown(browser, page(trace(lm, 15 * "abc\n"), lm, "run"), 390) as screen:
        ready(screen)
        for key in (None, "End", "Home"):
            if key:
                token(screen, chosen(screen)).press(key)
            frame, box = screen.locator("#text").bounding_box(), token(screen, chosen(screen)).bounding_box()
            assert frame["y"] <= box["y"] <= frame["y"] + frame["height"] - box["height"]
        assert frame["height"] < screen.evaluate("innerHeight") / 2


def test_what_a_head_attends_to_is_underlined_and_listed(browser: Browser, html: str):
    lm = language_model(n_heads=6, n_layers=5)
    weights = trace(lm, TEXT).attention.reshape(30, -1, len(lm.scored_tokens(TEXT)))
    with shown(browser, html) as page:
        token(ready(page), 20).click()
        maps = page.locator("#maps label")
        for head, look in [(9, lambda: maps.nth(9).hover()), (13, lambda: maps.nth(13).click())]:
            look()
            roots = page.evaluate(
                "[...document.querySelectorAll('[role=option]')].map((o) => +o.style.getPropertyValue('--attended'))"
            )
            expected = np.sqrt(weights[head, 20])
            np.testing.assert_allclose(roots, np.where(expected > 0.1, expected, 0), atol=0.003)
            most = page.locator("#attended li").first.inner_text()
            assert float(re.search(r"([\d.]+) %", most)[1]) == pytest.approx(100 * weights[head, 20].max(), abs=0.6)
        page.mouse.move(5, 5)
        assert page.locator("#head-title").inner_text() == "Layer 3, head 2"


def test_a_map_is_the_head_s_weights(browser: Browser, html: str):
    packed = re.search(r'"attention":"([^"]+)"', html)[1]
    rows = np.tril_indices(len(language_model().scored_tokens(TEXT)))
    expected = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8).reshape(30, -1)
    with shown(browser, html) as page:
        ready(page)
        alpha = np.array(
            page.evaluate(
                """() => [...document.querySelectorAll("#maps canvas")].map((canvas) => [...canvas.getContext("2d")
                .getImageData(0, 0, canvas.width, canvas.height).data].filter((_, i) => i % 4 === 3))"""
            )
        )
    n = rows[0].max() + 1
    np.testing.assert_array_equal(alpha.reshape(30, n, n)[:, *rows], expected)
    assert alpha.sum() == expected.sum()


def test_pointing_into_the_map_names_a_pair_of_tokens(browser: Browser, html: str):
    with shown(browser, html) as page:
        box = ready(page).locator("#map")
        size, n = box.bounding_box()["width"], page.locator("[role=option]").count()
        at_rest = page.locator("#pair").inner_text()
        box.hover(position={"x": 5.5 / n * size, "y": 17.5 / n * size})
        assert chosen(page) == 17
        assert token(page, 5).get_attribute("class") == "pointed"
        assert re.fullmatch(r".+ looks back to .+: (< )?[\d.]+ %", page.locator("#pair").inner_text())
        box.hover(position={"x": size - 5, "y": 5})
        assert page.locator("#pair").inner_text() == "No token looks ahead."
        page.mouse.move(5, 5)
        assert page.locator("#pair").inner_text() == at_rest
        assert page.locator(".pointed").count() == 0


def test_bars_and_clocks_follow_the_token(browser: Browser, html: str):
    lm = language_model(n_heads=6, n_layers=5)
    traced = trace(lm, TEXT)
    with shown(browser, html) as page:
        token(ready(page), 9).click()
        figures = page.locator("#residual .figure").all_inner_texts()
        turns = page.locator("#clocks .figure").all_inner_texts()
        phases = [float(clock) for clock in page.evaluate(
            "[...document.querySelectorAll('.clock')].map((c) => c.style.getPropertyValue('--phase'))"
        )]  # fmt: skip
    lengths = np.linalg.norm([traced.embedding[9], *traced.contributions[:, :, 9].reshape(10, -1)], axis=-1)
    np.testing.assert_allclose([float(figure) for figure in figures], lengths, rtol=6e-3)
    expected = 9 * traced.frequencies / (2 * np.pi)
    np.testing.assert_allclose([float(turn.split()[0]) for turn in turns], expected, atol=0.05)
    np.testing.assert_allclose(phases, expected % 1, atol=1e-9)


def test_without_its_script_the_text_and_the_tables_are_there(browser: Browser, html: str):
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.set_content(html)
        assert page.locator("noscript").inner_text().startswith("Without its script")
        n = page.locator("[role=option]").count()
        assert page.locator(".all tbody tr").count() == n
