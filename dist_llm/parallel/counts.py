"""What communication costs a rank: how many calls it makes, how long it waits in them, and how many bytes they move.

No MPI tells how many bytes it really moves. Counted are those of a bandwidth-optimal algorithm, the least there can be:
of an all-reduce of n bytes over p ranks, for instance, each rank sends and receives 2 (p - 1) / p n.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Calls:
    """Calls of one kind.

    Attributes
    ----------
    calls : int
    wait_s : float
        Seconds spent in calls that block, or in waiting for a call that was started before.
    sent_bytes, received_bytes : float
        Counted when a call is made or started.
    """

    calls: int = 0
    wait_s: float = 0.0
    sent_bytes: float = 0.0
    received_bytes: float = 0.0


@dataclass
class Counts:
    """Calls of all kinds.

    Attributes
    ----------
    by_kind : dict of str to Calls
        By the name of the method of `Comm`.
    waits : list of (float, float)
        Begin and end of each wait, in order, by `time.perf_counter`.
    """

    by_kind: dict[str, Calls] = field(default_factory=dict)
    waits: list[tuple[float, float]] = field(default_factory=list)

    @property
    def wait_s(self) -> float:
        """Seconds waited in all calls."""
        return sum(calls.wait_s for calls in self.by_kind.values())

    @property
    def sent_bytes(self) -> float:
        """Bytes sent in all calls."""
        return sum(calls.sent_bytes for calls in self.by_kind.values())

    @property
    def received_bytes(self) -> float:
        """Bytes received in all calls."""
        return sum(calls.received_bytes for calls in self.by_kind.values())


class Counters:
    """Counts calls into every `Counts` that is open."""

    def __init__(self) -> None:
        self._open: list[Counts] = []
        self.waits_since: float | None = None

    @contextmanager
    def counting(self) -> Iterator[Counts]:
        """Count the calls made within a ``with`` block; such blocks may lie inside of each other."""
        counts = Counts()
        self._open.append(counts)
        try:
            yield counts
        finally:
            self._open = [other for other in self._open if other is not counts]

    def moved(self, kind: str, sent_bytes: float, received_bytes: float) -> None:
        """Count a call."""
        for counts in self._open:
            calls = counts.by_kind.setdefault(kind, Calls())
            calls.calls += 1
            calls.sent_bytes += sent_bytes
            calls.received_bytes += received_bytes

    @contextmanager
    def waiting(self, kind: str) -> Iterator[None]:
        """Count the time of a ``with`` block as waited."""
        came = time.perf_counter()
        self.waits_since = came
        try:
            yield
        finally:
            self.waits_since = None
        left = time.perf_counter()
        for counts in self._open:
            counts.by_kind.setdefault(kind, Calls()).wait_s += left - came
            counts.waits.append((came, left))
