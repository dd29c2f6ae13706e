"""What each strategy promises, one body for every communicator and every number of ranks."""

import functools
import time
from collections.abc import Callable

import numpy as np
import pytest

from dist_llm.config import ParallelConfig
from dist_llm.errors import RunError
from dist_llm.parallel import deterministic
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.compression import encoded_bytes
from dist_llm.parallel.overlapped import MAX_BUCKETS
from dist_llm.parallel.registry import STRATEGIES, make_strategy
from dist_llm.parallel.strategy import Strategy
from dist_llm.parallel.topology import Topology
from dist_llm.seeding import generator
from tests.oracles.plain_diloco import plain_diloco

P, MICRO_BATCHES = 40_007, 12


def gradient(number: int, size: float = 1.0) -> np.ndarray:
    """Of micro-batch `number`, in float32."""
    return (size * generator(1, "gradient", number).standard_normal(P)).astype(np.float32)


def make(comm: Comm, name: str, boundaries: dict[int, float] | None = None, **options) -> Strategy:
    data = generator(1, "data").standard_normal(P).astype(np.float32)
    return make_strategy(comm, data, np.zeros_like(data), ParallelConfig(strategy=name, **options), boundaries)


def reduced(comm: Comm, strategy: Strategy, size: float = 1.0) -> np.ndarray:
    """Take a step of micro-batches shared out, and return this rank's shard of the gradient."""
    strategy.begin()
    mine = range(comm.rank, MICRO_BATCHES, comm.size)
    for number in mine:
        strategy.grad += gradient(number, size)
        if number != mine[-1]:
            strategy.micro_batch_done()
    for offset in (30_000, 29_999, 100, 0):  # as a backward pass goes along
        strategy.on_grad_ready(offset)
    strategy.reduce()
    return strategy.grad[strategy.shard]


def test_every_strategy_is_tested_here():
    assert set(STRATEGIES) == {"blocking", "overlapped", "deterministic", "sharded", "local"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("blocking", {}),
        ("overlapped", {"bucket_bytes": 4 * 1000}),
        ("overlapped", {"bucket_bytes": 1 << 30}),
        ("overlapped", {"bucket_bytes": 1}),
        ("deterministic", {}),
        ("sharded", {}),
        ("sharded", {"boundaries": {b: b for b in (0, 7, 13_000, 26_000, 39_999, P)}}),
    ],
)
def test_gradients_are_summed_and_parameters_updated_alike(comm, name, options):
    expected = np.sum([gradient(n).astype(np.float64) for n in range(MICRO_BATCHES)], axis=0)
    strategy = make(comm, name, **options)
    for _ in range(3):
        with comm.counting() as counts:
            got = reduced(comm, strategy)
            np.testing.assert_allclose(got, expected[strategy.shard], rtol=0, atol=2e-6)
            before = strategy.data.copy()
            strategy.update(
                lambda g=got: np.subtract(strategy.data[strategy.shard], g, out=strategy.data[strategy.shard]),
                sync=True,
            )
        np.testing.assert_allclose(strategy.data, before - expected, rtol=0, atol=1e-5)
        assert all(np.array_equal(strategy.data, other) for other in comm.allgather(strategy.data))
        assert (counts.sent_bytes > 0) == (comm.size > 1)
    strategy.close()


def test_shards_can_end_where_tensors_do(comm):
    boundaries = {b: b for b in (0, 7, 13_000, 26_000, 39_999, P)}
    shards = comm.allgather(make(comm, "sharded", boundaries).shard)
    assert [s.start for s in shards[1:]] == [s.stop for s in shards[:-1]]
    assert (shards[0].start, shards[-1].stop) == (0, P)
    assert {s.stop for s in shards} <= set(boundaries)
    strategy = make(comm, "sharded", boundaries)
    norms = comm.allgather(strategy.norm_weight * float(np.square(reduced(comm, strategy)).sum()))
    expected = np.sum([gradient(n).astype(np.float64) for n in range(MICRO_BATCHES)], axis=0)
    assert sum(norms) == pytest.approx(np.square(expected).sum(), rel=1e-4)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_optimizers_state_comes_whole_from_the_ranks_and_goes_back_to_them(comm, name):
    strategy = make(comm, name)
    first, last, _ = strategy.shard.indices(P)
    m, v = strategy.new_state("m", last - first, np.dtype(np.float32)), strategy.new_state("v", 3, np.dtype(np.float64))
    assert (m.dtype, v.dtype) == (np.float32, np.float64)
    m += np.arange(first, last, dtype=np.float32)
    v += comm.rank if name in ("local", "sharded") else 5
    whole_m, whole_v = strategy.gather(m), strategy.gather(v)
    assert (whole_m is None) == (whole_v is None) == (comm.rank > 0)
    if whole_m is not None:
        np.testing.assert_allclose(whole_m, np.arange(P), rtol=1e-6)
        expected = {
            "local": np.full(3, np.mean(range(comm.size))),
            "sharded": np.repeat(np.arange(comm.size), 3),
        }
        np.testing.assert_allclose(whole_v, expected.get(name, np.full(3, 5)))
    saved_m, kept = m.copy(), None if whole_m is None else whole_m.copy()  # what is gathered may be a view
    m[...] = -1
    strategy.scatter(kept, m)
    np.testing.assert_allclose(m, saved_m, rtol=1e-6)
    steps = np.array([comm.rank + 3])
    strategy.bcast_(steps)
    assert steps[0] == 3


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_fewer_bits_are_nearly_the_same_sums(comm, dtype, tolerance):
    expected = np.sum([gradient(n).astype(np.float64) for n in range(MICRO_BATCHES)], axis=0)
    strategy, full = make(comm, "blocking", reduce_dtype=dtype), make(comm, "blocking")
    with comm.counting() as compressed_counts:
        got = reduced(comm, strategy)
    error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
    assert 0 < error < tolerance, error
    assert all(np.array_equal(got, other) for other in comm.allgather(got))
    with comm.counting() as full_counts:
        reduced(comm, full)
    assert compressed_counts.sent_bytes < 0.51 * full_counts.sent_bytes or comm.size == 1


def test_deterministic(comm):
    # Whatever the number of ranks, the bits are those of one exact sum, rounded once.
    integers = sum(np.rint(gradient(n).astype(np.float64) * 2.0**40).astype(np.int64) for n in range(MICRO_BATCHES))
    strategy = make(comm, "deterministic")
    assert np.array_equal(reduced(comm, strategy), (integers * 2.0**-40).astype(np.float32))
    # Close to the limit, one by one; and together above it.
    size = (
        0.9 * deterministic.LIMIT / MICRO_BATCHES / max(float(np.abs(gradient(n)).max()) for n in range(MICRO_BATCHES))
    )
    assert np.isfinite(reduced(comm, strategy, size)).all()
    with pytest.raises(RunError, match=r"a gradient is too large for parallel\.strategy=deterministic"):
        reduced(comm, strategy, 2 * size)
    # What is no number stays none on all ranks, for the trainer to see.
    strategy.begin()
    if comm.rank == comm.size - 1:
        strategy.grad[7] = np.nan
    strategy.reduce()
    assert np.isnan(strategy.grad).all()


@pytest.mark.parametrize(("H", "rounds"), [(1, 4), (3, 3)])
def test_local_steps_are_those_of_the_paper(comm, H, rounds):
    def inner_step(x: np.ndarray, rank: int, number: int) -> np.ndarray:
        return x - 0.1 * (x - gradient(100 * rank + number))  # towards a point of the rank's own

    def worker(rank: int) -> Callable[[np.ndarray, int], np.ndarray]:
        return lambda x, k: functools.reduce(lambda x, i: inner_step(x, rank, H * k + i), range(H), x)

    strategy = make(comm, "local", local_steps=H, outer_lr=0.7, outer_momentum=0.9)
    start = strategy.data.copy()
    for number in range(H * rounds):
        with comm.counting() as counts:
            strategy.begin()
            strategy.reduce()
            moved = inner_step(strategy.data, comm.rank, number)
            strategy.update(lambda x=moved: np.copyto(strategy.data, x), sync=False)
        together = (number + 1) % H == 0
        assert (counts.sent_bytes > 0) == (together and comm.size > 1)
    expected = plain_diloco(start, [worker(rank) for rank in range(comm.size)], rounds, 0.7, 0.9)
    np.testing.assert_allclose(strategy.data, expected, rtol=0, atol=1e-5)
    assert all(np.array_equal(strategy.data, other) for other in comm.allgather(strategy.data))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "int4"])
def test_error_feedback_loses_nothing_but_the_last_remainder(comm, dtype):
    strategy = make(comm, "local", reduce_dtype=dtype, outer_lr=1.0, outer_momentum=0.0)
    start, moved = strategy.data.copy(), np.zeros(P)
    for number in range(20):
        change = 0.01 * gradient(100 * comm.rank + number)
        with comm.counting() as counts:
            strategy.begin()
            strategy.update(lambda c=change: np.add(strategy.data, c, out=strategy.data), sync=True)
        moved += np.mean([0.01 * gradient(100 * r + number).astype(np.float64) for r in range(comm.size)], axis=0)
    error = np.abs(strategy.data - start - moved).max()
    coarsest = 2 * 0.05 * {"float16": 2.0**-11, "bfloat16": 2.0**-8, "int8": 1 / 254, "int4": 1 / 14}[dtype]
    assert error < 2 * coarsest + 2e-5, error  # and not rounds times that
    assert all(np.array_equal(strategy.data, other) for other in comm.allgather(strategy.data))
    if comm.size > 1:
        full = make(comm, "local", outer_lr=1.0, outer_momentum=0.0)
        with comm.counting() as full_counts:
            full.begin()
            full.update(lambda: None, sync=True)
        shares = {"float16": 0.502, "bfloat16": 0.5, "int8": 0.27, "int4": 0.14}
        assert counts.sent_bytes <= shares[dtype] * full_counts.sent_bytes * (1 + 1e-6)


def test_what_ranks_have_for_themselves_is_kept_for_as_many_ranks(comm):
    def one() -> Strategy:
        strategy = make(comm, "local", reduce_dtype="int8", local_steps=2)
        strategy.new_state("m", P, np.dtype(np.float32))[...] = comm.rank
        return strategy

    first, second = one(), one()
    for number in range(3):
        first.begin()
        first.update(lambda n=number: np.add(first.data, gradient(100 * comm.rank + n), out=first.data), sync=True)
    state = first.state_dict()
    assert (state == {}) == (comm.rank > 0)
    if comm.rank == 0:
        assert state.keys() == {"momentum", "m", "remainder", "shard_remainder"}
        assert state["m"].reshape(comm.size, -1)[:, 0].tolist() == list(range(comm.size))
    second.data[...] = first.data
    second.load_state_dict(state)
    for strategy in (first, second):
        strategy.begin()
        strategy.update(lambda s=strategy: np.add(s.data, gradient(comm.rank), out=s.data), sync=True)
    assert np.array_equal(first.data, second.data)
    # Of another number of ranks, or of none, only what all have in common can be taken on.
    third = one()
    third.load_state_dict({"momentum": np.ones(P, np.float32), "m": np.zeros(7, np.float32)} if comm.rank == 0 else {})
    third.load_state_dict({})
    assert (third._momentum == 1).all()
    assert (third._optimizer_state["m"] == comm.rank).all()


@pytest.mark.parametrize("n", [1, 999, 1000, 1001, 12_345])
@pytest.mark.parametrize("bucket_bytes", [4000, 1, None])
def test_overlapped_starts_as_many_messages_as_it_says(comm, n, bucket_bytes):
    config = ParallelConfig(bucket_bytes=bucket_bytes)
    grad = np.zeros(n, np.float32)
    strategy = make_strategy(comm, grad.copy(), grad, config)
    with comm.counting() as counts:
        strategy.begin()
        strategy.reduce()
    strategy.close()
    topology = Topology.of(comm)
    if comm.size > 1:
        traffic = strategy.traffic(config, n, topology)
        assert counts.by_kind["iallreduce"].calls == traffic.messages <= MAX_BUCKETS
        assert strategy.buckets.startswith(f"{traffic.messages:,} of ")


def test_every_rank_waits_for_every_bucket_also_for_one_that_has_ended(comm):
    """What ranks waited is compared wait by wait, whichever of them saw the end of a bucket first."""
    grad = np.zeros(4000, np.float32)
    strategy = make_strategy(comm, grad.copy(), grad, ParallelConfig(bucket_bytes=4000))
    with comm.counting() as counts:
        for step in range(4):
            strategy.begin()
            strategy.on_grad_ready(2000)
            time.sleep(0.02 if step % comm.size == comm.rank else 0.0)  # here the thread sees the end of two buckets
            strategy.reduce()
    strategy.close()
    assert comm.size == 1 or len(counts.waits) == 16
    assert {len(waits) for waits in comm.allgather(counts.waits)} == {len(counts.waits)}


def test_one_byte_a_number_and_a_scale_a_block():
    assert encoded_bytes(P, "int8") == P + 4 * 40
