"""Waiting for others and waiting for the network, told apart.

A rank that waits in a collective call waits for two things: until the last rank has come (imbalance), and from then on
for the data (communication). Which is which, no rank knows by itself. So each notes when it came and when it left, and
after the run, all of them look at each other's notes. Nothing is added to the run that is measured, no barrier least of
all, which would take away the very overlap that it should measure.
"""

import platform
import time
from typing import Any

import numpy as np

from dist_llm.parallel.comm import Comm
from dist_llm.parallel.reduction import Reduction

CLOCK_READINGS = 101


class Meetings:
    """Notes of every blocking communication of this rank: the reduction's own, and the trainer's sum of the loss.

    Parameters
    ----------
    comm : Comm
    reduction : Reduction
        Their methods get a clock around them.
    """

    def __init__(self, comm: Comm, reduction: Reduction) -> None:
        self._comm = comm
        self._came: list[float] = []
        self._left: list[float] = []
        self._inside = False
        for owner, name in ((reduction, "_exposed"), (comm, "all_reduce_")):
            setattr(owner, name, self._noted(getattr(owner, name)))

    def _noted(self, method: Any) -> Any:
        def call(*args: Any) -> None:
            if self._inside:  # an all-reduce of the reduction's is noted already
                return method(*args)
            self._inside = True
            came = time.perf_counter()
            method(*args)
            self._left.append(time.perf_counter())
            self._came.append(came)
            self._inside = False
            return None

        return call

    def reset(self) -> None:
        """Forget all."""
        self._came.clear()
        self._left.clear()

    def waiting(self) -> tuple[float, float]:
        """Return the seconds of imbalance and of communication on this rank since the last `reset`; collective."""
        came, left = np.array(self._came), np.array(self._left)
        offset = clock_offset(self._comm)
        notes = self._comm.gather((came - offset, left - offset))
        imbalance, communication = split_waiting(np.array([n[0] for n in notes]), np.array([n[1] for n in notes]))
        return float(imbalance[self._comm.rank]), float(communication[self._comm.rank])


def split_waiting(came: np.ndarray, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide what ranks waited in meetings.

    Parameters
    ----------
    came, left : ndarray of shape (ranks, meetings)
        Seconds, on one clock.

    Returns
    -------
    imbalance : ndarray of shape (ranks,)
        Seconds until the last rank had come.
    communication : ndarray of shape (ranks,)
        The rest.
    """
    waited = left - came
    imbalance = np.clip(came.max(axis=0) - came, 0, waited)
    return imbalance.sum(axis=1), (waited - imbalance).sum(axis=1)


def clock_offset(comm: Comm) -> float:
    """Return by how many seconds this rank's clock is ahead of rank 0's; collective.

    The ranks of a host read the same clock. Those of others leave a small all-reduce at nearly the same moment: the
    median of many readings is good to about the latency of the network.
    """
    hosts = comm.gather(platform.node())
    if len(set(hosts)) == 1:
        return 0.0
    token, readings = np.zeros(1), np.empty(CLOCK_READINGS)
    for i in range(CLOCK_READINGS):
        comm.all_reduce_(token)
        readings[i] = time.perf_counter()
    return float(np.median(readings - comm.gather(readings)[0]))
