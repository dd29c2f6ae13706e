"""Where labels go in a picture: beside their points, and over nothing.

A label may stand at sixteen places around its point: its box touches the point's surroundings with a corner, the middle
of a side, or half-way between. They are tried at growing distances, and the first is taken at which the box is inside,
covers no other box and no line, has no line between itself and its point, and stands above the labels of all points
that are lower. What finds no place nearby is left out, unless it is needed: then it comes first and the others are
placed again; and if that helps nothing, it goes to the nearest free place anywhere, to be joined with its point by a
leader, a thin line. Nothing is random.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

Box = tuple[float, float, float, float]  # left, bottom, right, top
# Which part of the box points away from the point, the best first: beside, above and below, the corners, between.
SIDES = ((1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1), (-1, 0))
BETWEEN = ((1, 0.5), (1, -0.5), (0.5, 1), (0.5, -1), (-0.5, 1), (-0.5, -1), (-1, 0.5), (-1, -0.5))
# All in pixels.
STEP = 3.0  # between the distances tried
REACH = 20.0  # what is not further away is beside its point
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
    """Return a box for each label, or None.

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
    needed = [i for i, wish in enumerate(wishes) if wish.needed]
    attempts = list[_Placing]()
    for _ in range(1 + len(needed)):
        attempts.append(_Placing(wishes, lines, boxes, inside))
        attempts[-1].place_beside(needed)
        missing = [i for i in needed if i not in attempts[-1].found]
        if not missing:
            break
        needed.insert(0, needed.pop(needed.index(missing[0])))
    best = max(attempts, key=lambda attempt: len(attempt.found))
    best.place_anywhere(needed)
    best.place_beside(range(len(wishes)))
    return [best.found.get(i) for i in range(len(wishes))]


class _Placing:
    """Labels being placed, one after the other: `found` are the boxes, by the number of the wish."""

    def __init__(
        self, wishes: Sequence[Wish], lines: npt.NDArray[np.float64], boxes: Sequence[Box], inside: Box
    ) -> None:
        self.found: dict[int, Box] = {}
        self._wishes, self._lines, self._boxes, self._inside = wishes, lines, boxes, inside

    def place_beside(self, numbers: Iterable[int]) -> None:
        """Place those that are not yet, where there is room beside their points."""
        for i in numbers:
            if i not in self.found:
                for box in self._free(i, _around):
                    if self._in_order(i, box) and not _behind(self._wishes[i], box, self._lines).any():
                        self.found[i] = box
                        break

    def place_anywhere(self, numbers: Iterable[int]) -> None:
        """Place those that are not yet anywhere: if that can be, in order, and with leaders that run over no label."""
        for i in numbers:
            if i not in self.found and (free := list(self._free(i, _everywhere))):
                wish, labels = self._wishes[i], self.found.values()
                clear = [b for b in free if not any(crossed(label, leader(wish, b)).any() for label in labels)]
                self.found[i] = next(filter(partial(self._in_order, i), clear or free), (clear or free)[0])
                self._lines = np.concatenate([self._lines, leader(wish, self.found[i])])

    def _free(self, i: int, places: Callable[[Wish, Box], Iterator[Box]]) -> Iterator[Box]:
        """Yield those of the places that cover nothing."""
        taken = [*self._boxes, *self.found.values()]
        for box in places(self._wishes[i], self._inside):
            if not (any(overlap(box, other) for other in taken) or crossed(box, self._lines).any()):
                yield box

    def _in_order(self, i: int, box: Box) -> bool:
        """Return whether, of this label and each that is above or below it, the upper is that of the upper point."""
        for j, other in self.found.items():
            beside = box[2] <= other[0] or other[2] <= box[0]
            if not beside and (self._wishes[i].y - self._wishes[j].y) * (box[1] - other[1]) < 0:
                return False
        return True


def _around(wish: Wish, inside: Box) -> Iterator[Box]:
    """Yield the places beside a point, the nearest first."""
    for distance in np.arange(STEP, REACH, STEP):
        for across, up in (*SIDES, *BETWEEN):
            x = wish.x + across * (wish.width / 2 + distance) - wish.width / 2
            y = wish.y + up * (wish.height / 2 + distance) - wish.height / 2
            box = x, y, x + wish.width, y + wish.height
            if inside[0] <= x and inside[1] <= y and box[2] <= inside[2] and box[3] <= inside[3]:
                yield box


def _everywhere(wish: Wish, inside: Box) -> Iterator[Box]:
    """Yield places in all of the picture, those with the shortest leader first."""
    across = np.arange(inside[0], inside[2] - wish.width, 2 * STEP)
    up = np.arange(inside[1], inside[3] - wish.height, 2 * STEP)
    boxes = [(x, y, x + wish.width, y + wish.height) for y in up for x in across]
    yield from sorted(boxes, key=lambda box: math.dist((wish.x, wish.y), _end(wish, box)))


def _end(wish: Wish, box: Box) -> tuple[float, float]:
    """Return what of a box is nearest to its point."""
    return min(max(wish.x, box[0]), box[2]), min(max(wish.y, box[1]), box[3])


def leader(wish: Wish, box: Box) -> npt.NDArray[np.float64]:
    """Return the line from a point to its label; none, a (0, 2, 2) array, where that is beside it."""
    point, end = (wish.x, wish.y), _end(wish, box)
    return np.array([[point, end]]) if math.dist(point, end) >= 1.5 * REACH else np.empty((0, 2, 2))


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
    toward = np.array(_end(wish, box)) - point
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
