"""Dividing items among ranks."""


def share(n: int, rank: int, world_size: int) -> slice:
    """Return the contiguous part of n items that is a rank's; a remainder goes to the first ranks."""
    each, rest = divmod(n, world_size)
    start = rank * each + min(rank, rest)
    return slice(start, start + each + (rank < rest))


def share_in_units(n: int, unit: int, rank: int, world_size: int) -> slice:
    """Return a rank's part of n items of which `unit` neighbours each stay together."""
    units = share(-(-n // unit), rank, world_size)
    return slice(min(n, units.start * unit), min(n, units.stop * unit))
