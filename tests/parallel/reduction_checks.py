"""What each way of reduction promises, one body for every communicator and every number of ranks.

``mpirun -n N python -m tests.parallel.reduction_checks`` checks them over MPI.
"""

import functools
import sys
from collections.abc import Callable

import numpy as np
import pytest

from dist_llm.config import ParallelConfig
from dist_llm.errors import RunError
from dist_llm.parallel import deterministic
from dist_llm.parallel.choice import choose_reduction
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.program import run
from dist_llm.parallel.reduction import Reduction
from dist_llm.parallel.wire import encoded_bytes
from dist_llm.seeding import generator
from tests.oracles.plain_diloco import plain_diloco

P, MICRO_BATCHES = 40_007, 12


def gradient(number: int, size: float = 1.0) -> np.ndarray:
    """Of micro-batch `number`, in float32."""
    return (size * generator(1, "gradient", number).standard_normal(P)).astype(np.float32)


def make(comm: Comm, name: str, **options) -> Reduction:
    data = generator(1, "data").standard_normal(P).astype(np.float32)
    reduction = choose_reduction(comm, data, np.zeros_like(data), ParallelConfig(reduction=name, **options))
    reduction.restore({}, {})
    return reduction


def reduced(comm: Comm, reduction: Reduction, size: float = 1.0) -> np.ndarray:
    """Take a step of micro-batches shared out, and return this rank's part of the gradient."""
    reduction.begin()
    mine = range(comm.rank, MICRO_BATCHES, comm.size)
    for number in mine:
        reduction.grad += gradient(number, size)
        if number != mine[-1]:
            reduction.micro_batch_done()
    for offset in (30_000, 29_999, 100, 0):  # as a backward pass goes along
        reduction.ready(offset)
    reduction.reduce()
    return reduction.grad[reduction.part]


def check_sums(comm: Comm) -> None:
    expected = np.sum([gradient(n).astype(np.float64) for n in range(MICRO_BATCHES)], axis=0)
    for options in (
        {"reduction": "blocking"},
        {"reduction": "overlapped", "bucket_bytes": 4 * 1000},
        {"reduction": "overlapped", "bucket_bytes": 1 << 30},
        {"reduction": "deterministic"},
        {"reduction": "sharded"},
    ):
        reduction = make(comm, options["reduction"], **{k: v for k, v in options.items() if k != "reduction"})
        for _ in range(3):
            got = reduced(comm, reduction)
            np.testing.assert_allclose(got, expected[reduction.part], rtol=0, atol=2e-6, err_msg=str(options))
            before = reduction.data.copy()
            reduction.update(lambda r=reduction, g=got: np.subtract(r.data[r.part], g, out=r.data[r.part]), settle=True)
            np.testing.assert_allclose(reduction.data, before - expected, rtol=0, atol=1e-5, err_msg=str(options))
            assert all(np.array_equal(reduction.data, other) for other in comm.gather(reduction.data))
        assert (reduction.bytes_sent > 0) == (comm.size > 1)
        reduction.close()


def check_wire(comm: Comm) -> None:
    expected = np.sum([gradient(n).astype(np.float64) for n in range(MICRO_BATCHES)], axis=0)
    for wire, tolerance in (("float16", 2e-3), ("bfloat16", 2e-2)):
        reduction = make(comm, "blocking", wire=wire)
        got = reduced(comm, reduction)
        error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
        assert 0 < error < tolerance, (wire, error)
        assert all(np.array_equal(got, other) for other in comm.gather(got)), wire
        full = make(comm, "blocking")
        reduced(comm, full)
        assert reduction.bytes_sent < 0.51 * full.bytes_sent or comm.size == 1


def check_deterministic(comm: Comm) -> None:
    # Whatever the number of ranks, the bits are those of one exact sum, rounded once.
    integers = sum(np.rint(gradient(n).astype(np.float64) * 2.0**40).astype(np.int64) for n in range(MICRO_BATCHES))
    reduction = make(comm, "deterministic")
    assert np.array_equal(reduced(comm, reduction), (integers * 2.0**-40).astype(np.float32))
    # Close to the limit, one by one; and together above it.
    size = (
        0.9 * deterministic.LIMIT / MICRO_BATCHES / max(float(np.abs(gradient(n)).max()) for n in range(MICRO_BATCHES))
    )
    assert np.isfinite(reduced(comm, reduction, size)).all()
    with pytest.raises(RunError, match=r"a gradient is too large for parallel\.reduction=deterministic"):
        reduced(comm, reduction, 2 * size)
    # What is no number stays none on all ranks, for the trainer to see.
    reduction.begin()
    if comm.rank == comm.size - 1:
        reduction.grad[7] = np.nan
    reduction.reduce()
    assert np.isnan(reduction.grad).all()


def check_local(comm: Comm) -> None:
    def inner_step(x: np.ndarray, rank: int, number: int) -> np.ndarray:
        return x - 0.1 * (x - gradient(100 * rank + number))  # towards a point of the rank's own

    for H, rounds in ((1, 4), (3, 3)):

        def worker(rank: int, H: int = H) -> Callable[[np.ndarray, int], np.ndarray]:
            return lambda x, k: functools.reduce(lambda x, i: inner_step(x, rank, H * k + i), range(H), x)

        reduction = make(comm, "local", local_steps=H, outer_lr=0.7, outer_momentum=0.9)
        start = reduction.data.copy()
        for number in range(H * rounds):
            reduction.begin()
            reduction.reduce()
            moved = inner_step(reduction.data, comm.rank, number)
            reduction.update(lambda r=reduction, x=moved: np.copyto(r.data, x), settle=False)
            together = (number + 1) % H == 0
            assert (reduction.bytes_sent > 0) == (together and comm.size > 1)
        expected = plain_diloco(start, [worker(rank) for rank in range(comm.size)], rounds, 0.7, 0.9)
        np.testing.assert_allclose(reduction.data, expected, rtol=0, atol=1e-5)
        assert all(np.array_equal(reduction.data, other) for other in comm.gather(reduction.data))


def check_local_compressed(comm: Comm) -> None:
    """With error feedback the sum of what was received is that of what was given, but for the last remainder."""
    full = make(comm, "local", outer_lr=1.0, outer_momentum=0.0)
    sizes = {}
    for wire in ("float16", "bfloat16", "int8"):
        reduction = make(comm, "local", wire=wire, outer_lr=1.0, outer_momentum=0.0)
        start, moved = reduction.data.copy(), np.zeros(P)
        rounds = 20
        for number in range(rounds):
            change = 0.01 * gradient(100 * comm.rank + number)
            reduction.begin()
            reduction.update(lambda r=reduction, c=change: np.add(r.data, c, out=r.data), settle=True)
            moved += np.mean([0.01 * gradient(100 * r + number).astype(np.float64) for r in range(comm.size)], axis=0)
        sizes[wire] = reduction.bytes_sent
        error = np.abs(reduction.data - start - moved).max()
        coarsest = 2 * 0.05 * {"float16": 2.0**-11, "bfloat16": 2.0**-8, "int8": 1 / 254}[wire]
        assert error < 2 * coarsest + 2e-5, (wire, error)  # and not rounds times that
        assert all(np.array_equal(reduction.data, other) for other in comm.gather(reduction.data))
    if comm.size > 1:
        full.begin()
        full.update(lambda: None, settle=True)
        assert sizes["int8"] < 0.27 * full.bytes_sent
        assert sizes["bfloat16"] == pytest.approx(0.5 * full.bytes_sent)
    assert encoded_bytes(P, "int8") == P + 4 * 40


def main(argv: list[str], comm: Comm) -> int:
    for check in (check_sums, check_wire, check_deterministic, check_local, check_local_compressed):
        check(comm)
    if comm.rank == 0:
        print(f"checked all reductions on {comm.size} ranks")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
