"""What a communicator promises, one body for every communicator and every number of ranks.

``mpirun -n N python -m tests.parallel.comm_checks`` checks an MPIComm of N ranks.
"""

import sys

import numpy as np
import pytest

from dist_llm.errors import FailedElsewhereError, UserError
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.program import run
from dist_llm.shares import shares


def check_comm(comm: Comm) -> None:
    n, rank = comm.size, comm.rank
    assert 0 <= rank < n
    assert comm.gather(rank) == list(range(n))
    assert comm.gather({"rank": rank})[-1] == {"rank": n - 1}
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
    check_parts(comm)
    check_doing_things_together(comm)


def check_parts(comm: Comm) -> None:
    n, rank = comm.size, comm.rank
    parts = shares(1003, n)
    mine = parts[rank]
    values = np.arange(1003, dtype=np.float32)
    pending = [comm.start_all_reduce_(values[:500]), comm.start_all_reduce_(values[500:])]
    while not pending[0].test():
        pass
    for request in pending:
        request.wait()
    assert np.array_equal(values, n * np.arange(1003))
    assert np.array_equal(
        comm.reduce_scatter(np.arange(1003.0) + rank, parts), n * np.arange(1003)[mine] + sum(range(n))
    )
    gathered = np.full(1003, -1)
    gathered[mine] = rank
    comm.all_gather_(gathered, parts)
    assert all((gathered[part] == r).all() for r, part in enumerate(parts))
    received = comm.all_to_all(np.arange(1003) + 10_000 * rank, parts)
    assert np.array_equal(received, np.arange(1003)[mine] + 10_000 * np.arange(n)[:, None])
    whole = comm.gather_parts(gathered[mine], parts)
    assert (whole is None) == (rank > 0)
    assert rank > 0 or np.array_equal(whole, gathered)
    assert (comm.scatter_parts(whole, gathered[mine], parts) == rank).all()


def check_doing_things_together(comm: Comm) -> None:
    n, rank = comm.size, comm.rank
    assert comm.on_rank_0(lambda: f"said by {rank}") == "said by 0"
    # What each rank made stays with it: a memory map must not travel, nor a model whose arrays share memory.
    mine = object()
    assert comm.on_every_rank(lambda: lambda: mine)() is mine

    def user_error_on_the_last() -> None:
        if rank == n - 1:
            raise UserError(f"rank {rank} has no file")

    with pytest.raises(UserError, match=f"rank {n - 1} has no file") as raised:
        comm.on_every_rank(user_error_on_the_last)
    assert raised.value.agreed

    class LocalError(Exception):
        """Something no pickle can carry."""

    def bug_on_rank_0() -> None:
        raise LocalError("lost")

    with pytest.raises(LocalError if rank == 0 else FailedElsewhereError) as bug:
        comm.on_rank_0(bug_on_rank_0)
    assert rank > 0 or bug.value.agreed
    # After an agreed failure all ranks are still in step.
    assert comm.gather(rank) == list(range(n))


def main(argv: list[str], comm: Comm) -> int:
    check_comm(comm)
    if comm.rank == 0:
        print(f"checked {type(comm).__name__} of {comm.size} ranks")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
