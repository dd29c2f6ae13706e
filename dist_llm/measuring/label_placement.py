"""Where labels go in a picture: beside their points, and over nothing.

A label may stand at sixteen places around its point: its box touches the point's surroundings with a corner, the middle
of a side, or half-way between. They are tried at growing distances, and the first is taken at which the box is inside,
covers no other box and no line, has no line between itself and its point, and stands above the labels of all points
that are lower. What finds no place nearby is left out, unless it is needed: then it may be anywhere, and behind a line.
Nothing is random, and nothing that was placed moves again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Box = tuple[float, float, float, float]  # left, bottom, right, top
# Which part of the box points away from the point, the best first: beside, above and below, the corners, between.
SIDES = ((1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1), (-1, 0))
BETWEEN = ((1, 0.5), (1, -0.5), (0.5, 1), (0.5, -1), (-0.5, 1), (-0.5, -1), (-1, 0.5), (-1, -0.5))
# All in pixels.
STEP = 3.0  # between the distances tried
REACH = 20.0  # how far away what is not needed may be
CLEAR = 1.5  # kept free around a box
NEAR = 5.0  # from a point: lines that come so near go through it


@dataclass(frozen=True)
class Wish:
    """A label that wants to stand near a point (x, y), its size in pixels, and whether it must be shown."""

    x: float
    y: float
    width: float
    height: float
    needed: bool = False


def place(
    wishes: Sequence[Wish], lines: npt.NDArray[np.float64], boxes: Sequence[Box], inside: Box
) -> list[Box | None]:
    """Return a box for each label, or None; what comes first has the choice.

    Parameters
    ----------
    wishes : sequence of Wish
        The labels, the most important first.
    lines : (n, 2, 2) array
        The ends (x, y) of straight lines that no label may cover.
    boxes : sequence of Box
        What no label may cover either, such as the marks at points.
    inside : Box
        Where labels may be.
    """
    placed = list[tuple[Wish, Box]]()
    found: list[Box | None] = []
    for wish in wishes:
        box = _best(wish, _free(wish, lines, boxes, placed, inside), lines)
        if box is not None:
            placed.append((wish, box))
        found.append(box)
    return found


def _best(wish: Wish, free: Iterator[Box], lines: npt.NDArray[np.float64]) -> Box | None:
    """Return the nearest of the free places with no line in between, or, if the label is needed, the nearest."""
    nearest = None
    for box in free:
        if not _behind(wish, box, lines).any():
            return box
        nearest = nearest or box
    return nearest if wish.needed else None


def _free(
    wish: Wish, lines: npt.NDArray[np.float64], boxes: Sequence[Box], placed: Sequence[tuple[Wish, Box]], inside: Box
) -> Iterator[Box]:
    """Yield the places that cover nothing, and are in the order of the points."""
    taken = [*boxes, *(box for _, box in placed)]
    for box in _places(wish, inside):
        if any(overlap(box, other) for other in taken) or crossed(box, lines).any():
            continue
        if all(_in_order(wish, box, *other) for other in placed):
            yield box


def _places(wish: Wish, inside: Box) -> Iterator[Box]:
    """Yield the places inside, the nearest first."""
    left, bottom, right, top = inside
    reach = max(right - left, top - bottom) if wish.needed else REACH
    for distance in np.arange(STEP, reach, STEP):
        for across, up in (*SIDES, *BETWEEN):
            x = wish.x + across * (wish.width / 2 + distance)
            y = wish.y + up * (wish.height / 2 + distance)
            box = x - wish.width / 2, y - wish.height / 2, x + wish.width / 2, y + wish.height / 2
            if left <= box[0] and bottom <= box[1] and box[2] <= right and box[3] <= top:
                yield box


def overlap(a: Box, b: Box) -> bool:
    """Return whether two boxes come nearer than what is kept free."""
    return a[0] < b[2] + CLEAR and b[0] < a[2] + CLEAR and a[1] < b[3] + CLEAR and b[1] < a[3] + CLEAR


def crossed(box: Box, lines: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which lines come into a box, or near it.

    Liang and Barsky (1984): a line is inside along each axis for an interval of its length, and in the box where these
    intervals have something in common.
    """
    start, along = lines[:, 0], lines[:, 1] - lines[:, 0]
    low, high = np.array(box[:2]) - CLEAR, np.array(box[2:]) + CLEAR
    along = np.where(along == 0, 1e-12, along)
    first, last = (low - start) / along, (high - start) / along
    enter, leave = np.minimum(first, last).max(axis=1), np.maximum(first, last).min(axis=1)
    crosses: npt.NDArray[np.bool_] = np.maximum(enter, 0) <= np.minimum(leave, 1)
    return crosses


def _behind(wish: Wish, box: Box, lines: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which lines pass between a point and its box, without touching the point's surroundings."""
    point = np.array([wish.x, wish.y])
    toward = np.clip(point, box[:2], box[2:]) - point
    start, along = lines[:, 0] - point, lines[:, 1] - lines[:, 0]
    # start + s along = t toward, for s and t from 0 to 1
    turn = _cross(along, toward)
    turn = np.where(turn == 0, 1e-12, turn)
    s, t = _cross(toward, start) / turn, _cross(along, start) / turn
    near = np.hypot(*toward) * np.abs(t) < NEAR
    behind: npt.NDArray[np.bool_] = (s >= 0) & (s <= 1) & (t >= 0) & (t <= 1) & ~near
    return behind


def _cross(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _in_order(wish: Wish, box: Box, other: Wish, other_box: Box) -> bool:
    """Return whether of two labels, one above the other, the upper is that of the upper point."""
    beside = box[2] <= other_box[0] or other_box[2] <= box[0]
    return beside or (wish.y - other.y) * (box[1] - other_box[1]) >= 0
