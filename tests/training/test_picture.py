"""Labels that do not overlap, names that fit, and colors that all can tell apart."""

import itertools

import numpy as np
import pytest

from dist_llm.training.picture import COLORS, shortened, spread

# What a color becomes in the eyes of people without one kind of cones, on linear RGB (Machado, Oliveira and Fernandes,
# "A Physiologically-Based Model for Simulation of Color Vision Deficiency", 2009).
EYES = {
    "all cones": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(color: str, eyes) -> np.ndarray:
    """Return the CIELAB coordinates of a color like #0072B2, as somebody sees it."""
    srgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = XYZ @ np.clip(np.asarray(eyes) @ linear, 0, 1) / XYZ.sum(axis=1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", EYES)
def test_colors_can_be_told_apart(eyes):
    for one, other in itertools.combinations(COLORS, 2):
        assert np.linalg.norm(lab(one, EYES[eyes]) - lab(other, EYES[eyes])) > 12, (one, other)


@pytest.mark.parametrize("seed", range(20))
def test_labels_do_not_overlap_and_are_moved_no_further_than_needed(seed):
    rng = np.random.default_rng(seed)
    wanted, heights = np.sort(rng.uniform(0, 100, 6)), rng.uniform(2, 14, 6)
    centers = np.array(spread(wanted, heights, 0, 100))
    apart = (heights[1:] + heights[:-1]) / 2

    def fit(places):
        within = places[0] >= heights[0] / 2 - 1e-9 and places[-1] <= 100 - heights[-1] / 2 + 1e-9
        return within and bool((np.diff(places) >= apart - 1e-9).all())

    assert fit(centers)
    least = np.sum((centers - wanted) ** 2)
    for size in (0.01, 0.3, 3.0):
        others = centers + size * rng.normal(size=(5000, 6)) * rng.integers(0, 2, (5000, 6))
        better = [o for o in others if fit(o) and np.sum((o - wanted) ** 2) < least - 1e-9]
        assert not better


def test_labels_that_have_room_stay_where_they_are():
    assert spread([10, 50, 90], [20, 20, 20], 0, 100) == [10, 50, 90]
    assert spread([50, 50], [20, 20], 0, 100) == [40, 60]
    assert spread([99, 99], [20, 20], 0, 100) == [70, 90]
    assert spread([50, 50], [80, 80], 10, 100) == [50, 130]


def test_long_names_keep_their_beginning_and_end():
    assert shortened("short", 10) == "short"
    assert shortened("run-with-a-long-name-lr-0.003", 10) == "run-w….003"
    assert len(shortened("x" * 100, 21)) == 21
    assert shortened("two\nlines\x1b", 20) == "two lines\ufffd"
