import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dist_llm.measuring
from dist_llm.measuring.plotting import INK, PAPER, SERIES, TINTS, Drawing, Label, draw, error_bars
from dist_llm.measuring.spread import Spread

pytest.importorskip("matplotlib")
COLORS = (Path(dist_llm.measuring.__file__).parent / "colors.css").read_text()
LIGHT, DARK = COLORS.split("@media (prefers-color-scheme: dark)")


def one_line(axes: Any) -> list[Label]:
    axes.plot([0, 1], [0, 1], color=SERIES[0])
    return [Label("the <end>", 1, 1, SERIES[0], needed=True)]


DRAWING = Drawing("a title", 'words & "more"', 2.0, one_line)


def test_a_picture_is_an_svg_for_each_panel_and_one_png():
    picture = draw([DRAWING, DRAWING, DRAWING])
    assert picture.png.startswith(b"\x89PNG")
    assert [panel.title for panel in picture.panels] == ["a title"] * 3
    for svg in (panel.svg for panel in picture.panels):
        assert svg.startswith('<svg role="img" aria-label="words &amp; &quot;more&quot;"')
        assert ">the &lt;end&gt;</text>" in svg
        assert "a title" not in svg
    names = [name for panel in picture.panels for name in re.findall(r'\bid="(.*?)"', panel.svg)]
    assert len(names) == len(set(names))
    assert draw([DRAWING] * 3) == picture


def test_in_a_page_it_has_the_colors_of_the_page():
    (panel,) = draw([DRAWING]).panels
    assert f"stroke: var(--series-0, {SERIES[0]})" in panel.svg
    assert "currentColor" in panel.svg
    assert INK not in panel.svg


def test_a_panel_asks_for_nothing_that_is_elsewhere():
    (panel,) = draw([DRAWING]).panels
    assert set(re.findall(r'href="(.)', panel.svg)) == {"#"}
    assert "metadata" not in panel.svg


def test_nothing_to_draw():
    assert draw([]) is None


def test_error_bars_are_confidence_intervals_where_there_are_any():
    few, many = Spread.of([1.0, 2.0]), Spread.of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    low, high = many.interval
    below, above = error_bars([few, many], 100)
    assert np.isnan([below[0], above[0]]).all()
    assert (below[1], above[1]) == (pytest.approx(100 * (4 - low)), pytest.approx(100 * (high - 4)))
    assert (error_bars([Spread.of([0.1] * 7)]) == 0).all()


# Machado, Oliveira and Fernandes (2009): what is seen without cones for red, green and blue, of linear RGB.
VISION = {
    "usual": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color: str) -> np.ndarray:
    c = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB, in which a distance of 2.3 is the least that is noticed."""
    xyz = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(axis=1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def of_pages(kind: str, colors: str) -> list[str]:
    return re.findall(rf"--{kind}-\d: (#\w+)", colors)


def test_light_pages_have_the_colors_of_the_png():
    assert of_pages("series", LIGHT) == list(SERIES)
    assert of_pages("tint", LIGHT) == list(TINTS)
    assert f"--ink: {INK}; " in LIGHT
    assert f"--paper: {PAPER}; " in LIGHT


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("kind", ["series", "tint"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colors_are_told_apart_by_all(vision: str, kind: str, scheme: str):
    colors = {"series": SERIES, "tint": TINTS}[kind] if scheme == "light" else of_pages(kind, DARK)
    assert len(colors) == {"series": len(SERIES), "tint": len(TINTS)}[kind]
    seen = [lab(np.array(VISION[vision]) @ linear(color)) for color in colors]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 12
