"""Dividing items among ranks: contiguous shards, in the order of the ranks."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise


def shard(n: int, rank: int, world_size: int, granularity: int = 1) -> slice:
    """Return the shard of n items that is a rank's; a remainder goes to the first ranks.

    Parameters
    ----------
    granularity : int
        So many neighbours stay together; only the last of them may be fewer.
    """
    each, rest = divmod(-(-n // granularity), world_size)
    start = rank * each + min(rank, rest)
    stop = start + each + (rank < rest)
    return slice(min(n, start * granularity), min(n, stop * granularity))


def partition(n: int, world_size: int, boundaries: Mapping[int, float] | None = None) -> list[slice]:
    """Return the shards of all ranks.

    Parameters
    ----------
    boundaries : mapping of int to float, optional
        Offsets at which items may be cut, each with the cost of all items before it. Each cut goes where the costs come
        nearest to equal ones. By default items may be cut anywhere, and all cost the same.
    """
    if boundaries is None:
        return [shard(n, rank, world_size) for rank in range(world_size)]
    total = max(boundaries.values())
    cuts = [min(boundaries, key=lambda b: abs(boundaries[b] - total * r / world_size)) for r in range(1, world_size)]
    return [slice(start, stop) for start, stop in pairwise([0, *cuts, n])]


def consecutive(sizes: Iterable[int]) -> list[slice]:
    """Return slices of these sizes, one behind the other."""
    return [slice(start, stop) for start, stop in pairwise(accumulate(sizes, initial=0))]


def sizes(shards: Sequence[slice]) -> list[int]:
    """Return how many items each shard has."""
    return [shard.stop - shard.start for shard in shards]


def deal(costs: Sequence[float], n: int) -> list[list[int]]:
    """Deal items out to n ranks so that none has much more to do than another.

    The most costly first, each to whoever has least so far (Graham 1969): at most a third above the best there is.

    Returns
    -------
    list of list of int
        The items of each rank, in their order.
    """
    hands: list[list[int]] = [[] for _ in range(n)]
    loads = [0.0] * n
    for item in sorted(range(len(costs)), key=lambda item: -costs[item]):
        rank = loads.index(min(loads))
        hands[rank].append(item)
        loads[rank] += costs[item]
    return [sorted(hand) for hand in hands]
