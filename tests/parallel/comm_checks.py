"""What a communicator promises, one body for every communicator and every number of ranks.

``mpirun -n N python -m tests.parallel.comm_checks`` checks an MPIComm of N ranks.
"""

import sys

import numpy as np
import pytest

from dist_llm.errors import UserError
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.program import run


def check_comm(comm: Comm) -> None:
    n, rank = comm.size, comm.rank
    assert 0 <= rank < n
    assert comm.gather(rank) == list(range(n))
    assert comm.gather({"rank": rank})[-1] == {"rank": n - 1}
    assert 0 <= comm.local_rank < comm.local_size <= n
    for dtype in (np.float32, np.float64):
        for size in (1, 5, 100_003):
            array = np.arange(size, dtype=dtype) % 97 + rank
            comm.all_reduce_(array)
            assert array.dtype == dtype
            assert np.array_equal(array, n * (np.arange(size) % 97) + n * (n - 1) / 2)
    view = np.zeros(10)[2:7]
    view[...] = rank + 1
    comm.all_reduce_(view)
    assert (view == n * (n + 1) / 2).all()
    array = np.full(1000, rank, np.float32)
    comm.broadcast_(array)
    assert (array == 0).all()

    assert comm.on_rank_0(lambda: f"said by {rank}") == "said by 0"
    assert comm.on_every_rank(lambda: rank * 10) == rank * 10

    def fail_on_the_last() -> None:
        if rank == n - 1:
            raise UserError(f"rank {rank} has no file")

    def fail_with_something_no_pickle_can_carry() -> None:
        class LocalError(Exception):
            pass

        raise LocalError("lost")

    for function, call, kind, message in (
        (fail_on_the_last, comm.on_every_rank, UserError, f"rank {n - 1} has no file"),
        (fail_with_something_no_pickle_can_carry, comm.on_rank_0, Exception, "lost"),
        (lambda: 1 // 0, comm.on_rank_0, ZeroDivisionError, "division"),
    ):
        with pytest.raises(kind, match=message) as raised:
            call(function)
        assert getattr(raised.value, "agreed", True)
    # After an agreed failure all ranks are still in step.
    assert comm.gather(rank) == list(range(n))


def main(argv: list[str], comm: Comm) -> int:
    check_comm(comm)
    if comm.rank == 0:
        print(f"checked {type(comm).__name__} of {comm.size} ranks")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
