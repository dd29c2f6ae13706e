import time

import numpy as np
import pytest

from dist_llm.config import ParallelConfig
from dist_llm.parallel.comm import SerialComm
from dist_llm.parallel.registry import make_strategy
from dist_llm.scalability.wait_times import split_waiting, wait_times


def test_by_hand():
    # First wait: rank 1 comes 2 s late, and all leave half a second later. Second: rank 0 is 1 s late.
    came = np.array([[10.0, 21.0], [12.0, 20.0], [11.5, 20.5]])
    left = np.array([[12.5, 21.25], [12.5, 21.25], [12.5, 21.25]])
    imbalance, communication = split_waiting(came, left)
    assert imbalance.tolist() == [2.0, 1.0, 1.0]
    assert communication.tolist() == [0.75, 0.75, 0.75]


def test_who_leaves_before_the_last_has_come_waited_for_nothing_but_imbalance():
    imbalance, communication = split_waiting(np.array([[0.0], [3.0]]), np.array([[1.0], [3.5]]))
    assert imbalance.tolist() == [1.0, 0.0]
    assert communication.tolist() == [0.0, 0.5]


LATE_S = 0.4  # long beside what ranks on the same cores, and other programs, do to each other


@pytest.mark.parametrize("name", ["blocking", "overlapped", "sharded"])
def test_a_late_rank_is_imbalance_of_the_others(comm, name):
    grad = np.zeros(100_000, np.float32)
    strategy = make_strategy(comm, grad.copy(), grad, ParallelConfig(strategy=name))
    comm.allreduce_(np.zeros(1))
    with comm.counting() as counts:
        for _ in range(3):
            strategy.begin()
            if comm.rank == comm.size - 1:
                time.sleep(LATE_S)
            strategy.reduce()
            comm.allreduce_(np.zeros(4))
    imbalance, communication = wait_times(comm, counts.waits)
    strategy.close()
    if comm.size == 1:
        assert imbalance == 0  # one process waits for nobody
    elif comm.rank < comm.size - 1:
        assert imbalance > 0.8 * 3 * LATE_S
        assert communication < imbalance
    else:
        assert imbalance < 1.5 * LATE_S


def test_without_a_wait_there_is_nothing_to_divide():
    assert wait_times(SerialComm(), []) == (0.0, 0.0)
