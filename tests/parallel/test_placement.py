import os

from threadpoolctl import threadpool_info, threadpool_limits

from dist_llm.parallel.comm import SerialComm
from dist_llm.parallel.placement import place


class FourOnOneHost(SerialComm):
    """Rank 0 of four that say the same of themselves."""

    size = 4

    def gather(self, value):
        return [value] * 4


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_one_process_has_all_its_cores():
    with threadpool_limits(None):
        placement = place(SerialComm(), None)
        cores = sorted(os.sched_getaffinity(0))
        assert (placement.cores, placement.threads) == (tuple(cores), len(cores))
        assert blas_threads() == {len(cores)}


def test_ranks_that_share_cores_divide_them():
    with threadpool_limits(None):
        placement = place(FourOnOneHost(), None)
        assert placement.threads == max(1, len(placement.cores) // 4)
        assert blas_threads() == {placement.threads}


def test_the_user_decides():
    with threadpool_limits(None):
        assert place(FourOnOneHost(), 2).threads == 2
        assert blas_threads() == {2}
        assert "openblas" in place(SerialComm(), 1).blas


def test_freed_memory_is_kept(run):
    """In a process of its own, since the setting is for good."""
    program = """
import numpy as np, psutil
from dist_llm.parallel.allocator import keep_freed_memory
def rss_after_free():
    before = psutil.Process().memory_info().rss
    a = np.ones(4_000_000); del a
    return psutil.Process().memory_info().rss - before
first = rss_after_free()
assert keep_freed_memory()
print(first, rss_after_free())
"""
    result = run(0, "-c", program)
    assert result.returncode == 0, result.stderr
    given_back, kept = map(int, result.stdout.split())
    assert given_back < 8e6 < 24e6 < kept


def test_memory_is_counted_in_bytes(run):
    """In a process of its own: in the tests' own one, memory that others have freed may be there to be used again."""
    program = """
import numpy as np
from dist_llm.parallel.placement import memory_bytes
before = memory_bytes()
array = np.ones(10_000_000)
print(memory_bytes() - before)
"""
    result = run(0, "-c", program)
    assert result.returncode == 0, result.stderr
    assert 70e6 < int(result.stdout) < 120e6
