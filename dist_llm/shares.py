"""Dividing items among ranks."""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise


def share(n: int, rank: int, world_size: int) -> slice:
    """Return the contiguous part of n items that is a rank's; a remainder goes to the first ranks."""
    each, rest = divmod(n, world_size)
    start = rank * each + min(rank, rest)
    return slice(start, start + each + (rank < rest))


def share_in_units(n: int, unit: int, rank: int, world_size: int) -> slice:
    """Return a rank's part of n items of which `unit` neighbours each stay together."""
    units = share(-(-n // unit), rank, world_size)
    return slice(min(n, units.start * unit), min(n, units.stop * unit))


def shares(n: int, world_size: int) -> list[slice]:
    """Return the parts of all ranks."""
    return [share(n, rank, world_size) for rank in range(world_size)]


def consecutive(sizes: Iterable[int]) -> list[slice]:
    """Return slices of these sizes, one behind the other."""
    return [slice(start, stop) for start, stop in pairwise(accumulate(sizes, initial=0))]


def sizes(parts: Sequence[slice]) -> list[int]:
    """Return how many items each part has."""
    return [part.stop - part.start for part in parts]
