"""Waiting for others and waiting for the network, told apart.

A rank that waits in a collective call waits for two things: until the last rank has come (imbalance), and from then on
for the data (communication). Which is which, no rank knows by itself. But each communicator notes when it came and when
it left, and after the run, all ranks look at each other's notes. Nothing is added to the run that is measured, no
barrier least of all, which would take away the very overlap that it should measure.
"""

import time
from collections.abc import Sequence

import numpy as np

from dist_llm.parallel.comm import Comm
from dist_llm.parallel.hosts import first_of_host

CLOCK_READINGS = 101


def wait_times(comm: Comm, waits: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return this rank's seconds of imbalance and of communication, from the `waits` of its `Counts`; collective."""
    notes = np.array(waits, np.float64).reshape(-1, 2) - clock_offset(comm)
    came, left = np.array(comm.allgather(notes)).transpose(2, 0, 1)  # (ranks, waits)
    imbalance, communication = split_waiting(came, left)
    return float(imbalance[comm.rank]), float(communication[comm.rank])


def split_waiting(came: np.ndarray, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide what ranks waited, as noted by one clock: both (ranks, waits).

    Returns
    -------
    imbalance, communication : ndarray of shape (ranks,)
        Seconds until the last rank had come, and the rest.
    """
    waited = left - came
    imbalance = np.clip(came.max(axis=0) - came, 0, waited)
    return imbalance.sum(axis=1), (waited - imbalance).sum(axis=1)


def clock_offset(comm: Comm) -> float:
    """Return by how many seconds this rank's clock is ahead of rank 0's; collective.

    The ranks of a host read the same clock. Those of others leave a small all-reduce at nearly the same moment: the
    median of many readings is good to about the latency of the network.
    """
    if not any(first_of_host(comm)):
        return 0.0
    token, readings = np.zeros(1), np.empty(CLOCK_READINGS)
    for i in range(CLOCK_READINGS):
        comm.allreduce_(token)
        readings[i] = time.perf_counter()
    return float(np.median(readings - comm.allgather(readings)[0]))
