"""How much of a step's communication hides behind the backward pass: the buckets simulated, one after the other.

A bucket's reduction can begin when its gradients are final, and ends behind those that began before it. While the pass
goes on beside them,

    reductions proceed at a rate r < 1: MPI does nothing by itself, and somebody looks at it only now and then
    computation loses d seconds for each second of reductions done: TCP takes the cores' time

and after the pass they proceed at full speed, and are waited for. Both r and d are measured, by letting all reductions
of a step begin with a backward pass: T seconds alone, of which R are left when the pass ends; the pass takes W seconds
alone and W' so; both were under way for E seconds:

    r = (T - R) / E        d = (W' - W) / (T - R)

d goes with the bytes that are sent, not with the time that a network takes for them: it is the overhead o of LogP
(Culler et al. 1993, PPoPP), for a byte. So it is kept by byte, and a faster network takes as much time of the cores in
less time. Inside a host communication is work of the cores that compute: nothing hides, and nothing of this applies.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

KEPT = 0.1  # of its speed computation keeps at least, however fast the network is


@dataclass(frozen=True)
class Beside:
    """A backward pass and the reductions of a step, measured together and alone, time after time."""

    final: list[tuple[float, float]]  # share of the gradients that is final, and of the pass's time that it took
    sent_bytes: float  # by each rank, in all reductions
    alone_s: list[float]  # T
    left_s: list[float]  # R, on the rank that came last
    backward_s: list[float]  # W, the mean over ranks
    slowed_s: list[float]  # W', likewise
    both_s: list[float]  # E


@dataclass(frozen=True)
class Overlap:
    """What was made of it; `progress` is r, and d comes of `lost_s_per_byte`."""

    ranks: int  # that it was measured on
    final: list[tuple[float, float]]  # as in `Beside`
    progress: float
    lost_s_per_byte: float  # of computation, for each byte sent beside it

    @classmethod
    def of(cls, ranks: int, measured: Beside) -> "Overlap":
        """Return the medians' rates; neither is below zero, and nothing is faster beside computation than alone."""
        alone_s, done_s = median(measured.alone_s), median(measured.alone_s) - median(measured.left_s)
        if done_s <= 0:
            return cls(ranks, measured.final, 0.0, 0.0)
        slowed_s = max(0.0, median(measured.slowed_s) - median(measured.backward_s))
        progress = min(1.0, done_s / median(measured.both_s))
        return cls(ranks, measured.final, progress, slowed_s / (measured.sent_bytes * done_s / alone_s))

    def ready(self, messages: int) -> list[float]:
        """Return when each of so many equal buckets can begin, as shares of the pass's time."""
        shares = [share for share, _ in self.final]
        # In whole bytes the last bucket ends where the last gradient does; in shares rounding must not part them.
        found = (bisect_left(shares, (n + 1) / messages - 1e-9) for n in range(messages))
        return [self.final[i][1] for i in found]


@dataclass(frozen=True)
class Hidden:
    """What is left of communication: seconds waited for it, and by which computation took longer."""

    exposed_s: float
    slowed_s: float


def simulate(ready: Sequence[float], window_s: float, message_s: float, progress: float, lost: float) -> Hidden:
    """Follow the buckets through a backward pass.

    Parameters
    ----------
    ready : sequence of float, ascending
        When each can begin, as a share of the work of the pass.
    window_s : float
        What the pass takes alone.
    message_s : float
        What a reduction takes alone.
    progress : float
        Seconds of reductions done in a second beside computation: r.
    lost : float
        Seconds of computation lost for each of them: d.
    """
    progress = min(progress, (1 - KEPT) / lost) if lost else progress
    rate = progress / (1 - progress * lost)  # in a second of the pass's own work, which takes longer
    left_s = hidden_s = 0.0
    for begin, end in pairwise((*ready, 1.0)):
        left_s += message_s
        done_s = min(left_s, rate * (end - begin) * window_s)
        left_s -= done_s
        hidden_s += done_s
    return Hidden(left_s, lost * hidden_s)
