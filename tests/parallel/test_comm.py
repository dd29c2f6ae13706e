"""What a communicator promises, one body for every communicator and every number of ranks."""

import threading
import time

import numpy as np
import pytest

from dist_llm.errors import FailedElsewhereError, UserError
from dist_llm.parallel.comm import SerialComm
from dist_llm.partition import partition


def test_ranks_know_themselves_and_each_other(comm):
    assert 0 <= comm.rank < comm.size
    assert comm.allgather(comm.rank) == list(range(comm.size))
    assert comm.allgather({"rank": comm.rank})[-1] == {"rank": comm.size - 1}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 5, 100_003])
def test_allreduce_in_place(comm, dtype, size):
    n = comm.size
    array = np.arange(size, dtype=dtype) % 97 + comm.rank
    comm.allreduce_(array)
    assert array.dtype == dtype
    assert np.array_equal(array, n * (np.arange(size) % 97) + n * (n - 1) / 2)


def test_allreduce_of_a_view(comm):
    whole = np.zeros(10)
    whole[2:7] = comm.rank + 1
    comm.allreduce_(whole[2:7])
    assert (whole[2:7] == comm.size * (comm.size + 1) / 2).all()
    assert whole[:2].sum() == whole[7:].sum() == 0


def test_bcast(comm):
    array = np.full(1000, comm.rank, np.float32)
    comm.bcast_(array)
    assert (array == 0).all()


def test_started_allreduces(comm):
    values = np.arange(1003, dtype=np.float32)
    pending = [comm.iallreduce_(values[:500]), comm.iallreduce_(values[500:])]
    while not pending[0].test():
        pass
    for request in pending:
        request.wait()
    assert np.array_equal(values, comm.size * np.arange(1003))


def test_shards(comm):
    n, rank = comm.size, comm.rank
    shards = partition(1003, n)
    mine = shards[rank]
    summed = comm.reduce_scatter(np.arange(1003.0) + rank, shards)
    assert np.array_equal(summed, n * np.arange(1003)[mine] + sum(range(n)))
    gathered = np.full(1003, -1)
    gathered[mine] = rank
    comm.allgatherv_(gathered, shards)
    assert all((gathered[shard] == r).all() for r, shard in enumerate(shards))
    received = comm.alltoallv(np.arange(1003) + 10_000 * rank, shards)
    assert np.array_equal(received, np.arange(1003)[mine] + 10_000 * np.arange(n)[:, None])
    whole = comm.gatherv(gathered[mine], shards)
    assert (whole is None) == (rank > 0)
    assert rank > 0 or np.array_equal(whole, gathered)
    scattered = np.full_like(gathered[mine], -1)
    comm.scatterv(whole, scattered, shards)
    assert (scattered == rank).all()


def test_what_each_rank_makes_stays_with_it(comm):
    assert comm.on_rank_0(lambda: f"said by {comm.rank}") == "said by 0"
    # A memory map must not travel, nor a model whose arrays share memory.
    mine = object()
    assert comm.on_every_rank(lambda: lambda: mine)() is mine


def test_a_user_error_on_one_rank_is_raised_on_all(comm):
    last = comm.size - 1

    def user_error_on_the_last() -> None:
        if comm.rank == last:
            raise UserError(f"rank {last} has no file")

    with pytest.raises(UserError, match=f"rank {last} has no file") as raised:
        comm.on_every_rank(user_error_on_the_last)
    assert raised.value.agreed
    # After an agreed failure all ranks are still in step.
    assert comm.allgather(comm.rank) == list(range(comm.size))


def test_a_bug_on_rank_0_fails_there_and_elsewhere(comm):
    class LocalError(Exception):
        """Something no pickle can carry."""

    def bug() -> None:
        raise LocalError("lost")

    with pytest.raises(LocalError if comm.rank == 0 else FailedElsewhereError) as raised:
        comm.on_rank_0(bug)
    assert comm.rank > 0 or raised.value.agreed
    assert comm.allgather(comm.rank) == list(range(comm.size))


def test_calls_are_counted_by_kind(comm):
    p, n = comm.size, 1000
    array = np.zeros(n, np.float32)
    shards = partition(n, p)
    own = 4 * (shards[comm.rank].stop - shards[comm.rank].start)
    comm.allreduce_(array)  # before anybody counts
    with comm.counting() as outer:
        for _ in range(3):
            comm.allreduce_(array)
        with comm.counting() as inner:
            comm.iallreduce_(array).wait()
            comm.reduce_scatter(array, shards)
            comm.allgatherv_(array, shards)
            comm.alltoallv(array, shards)
            comm.bcast_(array)
            comm.allgather(None)
    comm.allreduce_(array)  # and afterwards
    if p == 1 and isinstance(comm, SerialComm):
        assert outer.by_kind == inner.by_kind == {}  # one process moves nothing, and waits for nobody
        return
    assert {kind: calls.calls for kind, calls in outer.by_kind.items()} == {
        "allreduce": 3, "iallreduce": 1, "reduce_scatter": 1, "allgatherv": 1, "alltoallv": 1, "bcast": 1,
        "allgather": 1,
    }  # fmt: skip
    assert "allreduce" not in inner.by_kind
    share = 4 * n * (p - 1) / p
    for kind, times in (("allreduce", 6), ("iallreduce", 2)):
        calls = outer.by_kind[kind]
        assert calls.sent_bytes == calls.received_bytes == pytest.approx(times * share)
        assert calls.wait_s > 0
    gathered = outer.by_kind["allgatherv"]
    assert (gathered.sent_bytes, gathered.received_bytes) == ((p - 1) * own, 4 * n - own)
    for kind in ("alltoallv", "reduce_scatter"):
        exchanged = outer.by_kind[kind]
        assert (exchanged.sent_bytes, exchanged.received_bytes) == (4 * n - own, (p - 1) * own)
    assert (outer.by_kind["bcast"].sent_bytes > 0) == (comm.rank == 0 and p > 1)
    # Every wait is noted once, in order, and they are the seconds that were counted.
    assert len(outer.waits) == 9
    assert len(inner.waits) == 6
    assert sum(left - came for came, left in outer.waits) == pytest.approx(outer.wait_s)
    assert all(came <= left for came, left in outer.waits)
    assert outer.waits == sorted(outer.waits)
    assert outer.sent_bytes > inner.sent_bytes > 0 or p == 1


def test_where_nobody_has_died_all_agree(comm):
    comm.agree()
    assert not comm.has_shrunk
    assert not comm.has_lost()


def test_how_long_a_rank_waits_can_be_asked_by_a_thread(comm):
    seen, ended = [0.0], threading.Event()

    def look() -> None:
        while not ended.wait(0.005):
            seen.append(comm.waits_s)

    looking = threading.Thread(target=look)
    looking.start()
    if comm.rank == 0:
        time.sleep(0.2)  # the others wait for this one
    comm.allgather(None)
    ended.set()
    looking.join()
    assert comm.waits_s == 0
    assert max(seen) > 0.1 or comm.rank == 0
