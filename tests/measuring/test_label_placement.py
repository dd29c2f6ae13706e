from itertools import combinations

import numpy as np
import pytest

from dist_llm.measuring.label_placement import Box, Wish, crossed, leader, overlap, place
from dist_llm.seeding import generator

INSIDE = (0.0, 0.0, 400.0, 300.0)
NO_LINES = np.empty((0, 2, 2))


def middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def apart(a: Box, b: Box) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def sampled(line: np.ndarray) -> np.ndarray:
    """Points of a straight line."""
    return line[0] + np.linspace(0, 1, 500)[:, None] * (line[1] - line[0])


def inside(points: np.ndarray, box: Box) -> np.ndarray:
    x, y = points.T
    return (box[0] < x) & (x < box[2]) & (box[1] < y) & (y < box[3])


def test_a_label_stands_beside_its_point():
    assert place([Wish(100, 100, 40, 10)], NO_LINES, [], INSIDE) == [(103, 95, 143, 105)]


def test_where_there_is_no_room_beside_it_stands_above():
    assert place([Wish(390, 100, 40, 10)], NO_LINES, [], (0, 0, 420, 300)) == [(370, 103, 410, 113)]


@pytest.mark.parametrize("lower_first", [True, False])
def test_of_two_points_at_one_place_the_lower_has_the_lower_label(lower_first: bool):
    wishes = [Wish(200, 100, 40, 12), Wish(200, 102, 40, 12)]
    boxes = place(wishes if lower_first else wishes[::-1], NO_LINES, [], INSIDE)
    lower, upper = boxes if lower_first else boxes[::-1]
    assert lower is not None
    assert upper is not None
    assert upper[1] >= lower[3] or apart((lower[0], 0, lower[2], 1), (upper[0], 0, upper[2], 1))


def test_no_line_is_between_a_point_and_its_label():
    line = np.array([[[0, 110], [400, 110]], [[110, 0], [110, 300]]], float)  # above and to the right
    (box,) = place([Wish(100, 100, 40, 6)], line, [], INSIDE)
    assert box is not None
    assert box[2] < 110
    assert box[3] < 110


def test_what_is_not_needed_is_left_out_and_what_is_needed_goes_further_away():
    wall = [(80.0, 80.0, 120.0, 120.0)]
    assert place([Wish(100, 100, 40, 10)], NO_LINES, wall, INSIDE) == [None]
    needed = Wish(100, 100, 40, 10, needed=True)
    (box,) = place([needed], NO_LINES, wall, INSIDE)
    assert apart(box, wall[0])
    assert min(abs(box[i] - at) for i, at in enumerate((120, 120, 80, 80))) < 10  # close to the wall
    ((start, end),) = leader(Wish(100, 50, 40, 10), (200, 95, 240, 105))
    assert (start.tolist(), end.tolist()) == ([100, 50], [200, 95])


def test_a_label_that_is_needed_and_found_no_place_nearby_is_placed_first():
    """What is above would have the place of what is below, which would have to go far away."""
    wall = [(0.0, 0.0, 199.0, 400.0), (200.0, 0.0, 400.0, 91.0)]
    wishes = [Wish(196, 100, 90, 12, True), Wish(196, 98, 90, 12, True)]
    upper, lower = place(wishes, NO_LINES, wall, INSIDE)
    assert upper[1] >= lower[3]
    assert [len(leader(wish, box)) for wish, box in zip(wishes, (upper, lower), strict=True)] == [0, 0]


def test_nothing_at_all_fits_into_too_small_a_place():
    assert place([Wish(5, 5, 40, 10, needed=True)], NO_LINES, [], (0, 0, 30, 30)) == [None]


@pytest.mark.parametrize("seed", range(50))
def test_no_label_covers_anything_whatever_there_is(seed: int):
    rng = generator(seed, "labels")
    lines = rng.uniform((0, 0), (400, 300), (int(rng.integers(8)), 2, 2))
    marks = [(x - 4, y - 4, x + 4, y + 4) for x, y in rng.uniform((0, 0), (400, 300), (10, 2))]
    points = rng.uniform((0, 0), (400, 300), (12, 2))
    wishes = [Wish(x, y, float(rng.uniform(10, 90)), 12, bool(rng.random() < 0.3)) for x, y in points]
    boxes = place(wishes, lines, marks, INSIDE)
    assert boxes == place(wishes, lines, marks, INSIDE)
    placed = [(wish, box) for wish, box in zip(wishes, boxes, strict=True) if box is not None]
    assert len(placed) >= 4
    assert all(box is not None for wish, box in zip(wishes, boxes, strict=True) if wish.needed)
    for wish, box in placed:
        assert (box[2] - box[0], box[3] - box[1]) == pytest.approx((wish.width, wish.height))
        assert min(box[0], box[1], INSIDE[2] - box[2], INSIDE[3] - box[3]) >= 0
        assert all(apart(box, mark) for mark in marks)
        assert not any(inside(sampled(line), box).any() for line in lines)
    leaders = [line for wish, box in placed for line in leader(wish, box)]
    crossings = sum(inside(sampled(line), box).any() for line in leaders for _, box in placed)
    assert crossings <= 1  # where there is no other way
    for (wish, box), (other, other_box) in combinations(placed, 2):
        assert apart(box, other_box)
        beside = not (len(leader(wish, box)) or len(leader(other, other_box)))
        if beside and box[0] < other_box[2] and other_box[0] < box[2]:
            assert (wish.y - other.y) * (middle(box)[1] - middle(other_box)[1]) >= 0


@pytest.mark.parametrize("seed", range(20))
def test_crossed_finds_the_lines_that_have_a_point_inside(seed: int):
    rng = generator(seed, "crossed")
    lines, box = rng.uniform(0, 100, (50, 2, 2)), (30.0, 40.0, 60.0, 70.0)
    lines[:10, 1, 0] = lines[:10, 0, 0]  # upright
    found = crossed(box, lines)
    for line, is_crossed in zip(lines, found, strict=True):
        points = sampled(line)
        if is_crossed:  # with what is kept free around
            assert inside(points, (28.3, 38.3, 61.7, 71.7)).any()
        else:
            assert not inside(points, box).any()


def test_overlap_keeps_something_free():
    assert overlap((0, 0, 10, 10), (11, 0, 20, 10))
    assert not overlap((0, 0, 10, 10), (12, 0, 20, 10))
