import json
import os

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from dist_llm.parallel import placement as placement_module
from dist_llm.parallel.comm import SerialComm
from dist_llm.parallel.cores import affinity_mask, bind, physical_cores
from dist_llm.parallel.placement import Placement, Seat, place, plan


class FourOnOneHost(SerialComm):
    """Rank 0 of four that say the same of themselves."""

    size = 4

    def allgather(self, value):
        return [value] * 4


@pytest.fixture
def own_mask(monkeypatch):
    """The mask of the tests' process, which is restored; no quota."""
    monkeypatch.setattr(placement_module, "cpu_quotas", dict)
    mask = affinity_mask()
    yield mask
    bind(mask)


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_one_process_has_all_its_cores(own_mask):
    n = len(physical_cores(own_mask))
    with threadpool_limits(None):
        placement = place(SerialComm(), None)
        assert (placement.cores, placement.threads) == (own_mask, n)
        assert (placement.bound_by, placement.quota, placement.warning) == ("", None, "")
        assert blas_threads() == {n}


def test_ranks_that_share_cores_divide_them(own_mask):
    n = len(physical_cores(own_mask))
    with threadpool_limits(None):
        placement = place(FourOnOneHost(), None)
        assert placement.threads == max(1, n // 4)
        assert blas_threads() == {placement.threads}
        assert placement.bound_by == ("dist_llm" if n >= 4 else "")
        assert affinity_mask() == placement.cores


def test_the_user_decides(own_mask):
    with threadpool_limits(None):
        placement = place(FourOnOneHost(), 2)
        assert (placement.threads, placement.why) == (2, "as --parallel.threads says")
        assert blas_threads() == {2}
        assert "openblas" in place(SerialComm(), 1).blas


def test_a_system_that_forbids_binding(own_mask, monkeypatch):
    monkeypatch.setattr(placement_module, "bind", lambda cpus: False)
    monkeypatch.setattr(placement_module, "physical_cores", lambda mask: ((0,), (1,), (2,), (3,)))
    with threadpool_limits(None):
        placement = place(FourOnOneHost(), None)
    assert (placement.cores, placement.bound_by) == (own_mask, "")


def seat(*cpus: int, host: str = "a", **quotas: float) -> Seat:
    return Seat(host, tuple((cpu,) for cpu in cpus), quotas)


def brief(placements: list[Placement]) -> list[tuple]:
    return [(p.cores, p.threads, p.bound_by) for p in placements]


def test_one_rank():
    (p,) = plan([seat(0, 1, 2)], None)
    assert p == Placement("a", (0, 1, 2), 3, "", why="3 usable cores / 1 rank")


def test_ranks_with_one_mask_get_cores_of_their_own():
    placements = plan([seat(0, 1, 2, 3, 4)] * 2, None)
    assert brief(placements) == [((0, 1), 2, "dist_llm"), ((2, 3, 4), 2, "dist_llm")]
    assert {p.why for p in placements} == {"5 usable cores / 2 ranks"}
    assert brief(plan([seat(0, 1, 2, 3)] * 2, 1)) == [((0, 1), 1, "dist_llm"), ((2, 3), 1, "dist_llm")]


def test_hardware_threads_stay_together():
    seats = [Seat("a", ((0, 2), (1, 3)))] * 2
    assert brief(plan(seats, None)) == [((0, 2), 1, "dist_llm"), ((1, 3), 1, "dist_llm")]


def test_the_launchers_binding_stays():
    assert brief(plan([seat(0, 1), seat(2, 3)], None)) == [((0, 1), 2, "launcher"), ((2, 3), 2, "launcher")]
    by_socket = [seat(0, 1), seat(2, 3), seat(0, 1), seat(2, 3)]
    assert [p.cores for p in plan(by_socket, None)] == [(0,), (2,), (1,), (3,)]


def test_hosts_do_not_share():
    placements = plan([seat(0, 1), seat(0, 1, host="b"), seat(0, 1)], None)
    assert brief(placements) == [((0,), 1, "dist_llm"), ((0, 1), 2, ""), ((1,), 1, "dist_llm")]


def test_systems_without_affinity():
    seats = [Seat("a", ((0,), (1,)), can_bind=False)] * 2
    assert brief(plan(seats, None)) == [((0, 1), 1, "")] * 2


@pytest.mark.parametrize(
    ("ranks", "threads", "warning"),
    [
        (3, None, "3 threads of 3 ranks take turns (2 usable cores): start at most 2 ranks there"),
        (3, 2, "6 threads of 3 ranks take turns (2 usable cores): start at most 2 ranks there, with "
               "--parallel.threads=1"),
        (2, 2, "4 threads of 2 ranks take turns (2 usable cores): --parallel.threads=1 or fewer ranks would be "
               "faster"),
        (1, 3, "3 threads of 1 rank take turns (2 usable cores): --parallel.threads=2 would be faster"),
    ],
)  # fmt: skip
def test_too_much_for_the_cores(ranks, threads, warning):
    for p in plan([seat(0, 1)] * ranks, threads):
        assert (p.cores, p.bound_by, p.warning) == ((0, 1), "", warning)


def test_a_quota_holds_for_all_ranks_in_the_cgroup():
    (alone,) = plan([seat(0, 1, 2, 3, job=1.5)], None)
    assert (alone.threads, alone.quota, alone.why) == (1, 1.5, "cgroup quota of 1.5 CPUs / 1 rank")
    assert alone.warning == ""
    two = plan([seat(*range(8), job=5), seat(*range(8, 16), job=5)], None)
    assert {(p.threads, p.why, p.warning) for p in two} == {(2, "cgroup quota of 5 CPUs / 2 ranks", "")}
    nested = plan([seat(*range(8), job=5, one=1), seat(*range(8), job=5, other=4)], None)
    assert [(p.threads, p.quota) for p in nested] == [(1, 1), (2, 4)]
    apart = plan([seat(0, 1, job=2), seat(0, 1, host="b", job=2)], None)
    assert [p.threads for p in apart] == [2, 2]
    large = plan([seat(0, 1, job=64)], None)
    assert large[0].why == "2 usable cores / 1 rank"


def test_too_much_for_a_quota():
    placements = plan([seat(*range(8), job=2.5)] * 4, None)
    assert {p.warning for p in placements} == {
        "4 threads of 4 ranks take turns (cgroup quota of 2.5 CPUs): start at most 2 ranks there"
    }
    assert [len(p.cores) for p in placements] == [2] * 4
    (least,) = plan([seat(0, 1, job=0.5)], None)
    assert (least.threads, least.warning) == (1, "")


def test_masks_that_overlap():
    placements = plan([seat(0, 1), seat(1, 2)], None)
    assert {p.warning for p in placements} == {
        "4 threads of 2 ranks take turns (3 usable cores): --parallel.threads=1 or fewer ranks would be faster"
    }


@pytest.mark.mpirun
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system knows no affinity")
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_that_no_launcher_has_bound(run, ranks):
    """On the first two cores of this machine, whatever the launcher has done."""
    cores = physical_cores(affinity_mask())[:2]
    if len(cores) < 2:
        pytest.skip("needs two cores")
    mask = sorted(cpu for core in cores for cpu in core)
    program = f"""
import json, os
import numpy as np
from dist_llm.parallel.launcher import connect
from dist_llm.parallel.cores import bind
from dist_llm.parallel.placement import place
bind({mask})
comm = connect()
p = place(comm, None)
masks = [sorted(os.sched_getaffinity(int(thread))) for thread in os.listdir("/proc/self/task")]
placements = comm.allgather((p.cores, p.threads, p.bound_by, masks))
if comm.rank == 0:
    print(json.dumps(placements))
"""
    result = run(ranks, "-c", program, OMP_NUM_THREADS="2")
    assert result.returncode == 0, result.stderr
    placements = json.loads(result.stdout)
    assert len(placements) == ranks
    for rank, (own, threads, bound_by, masks) in enumerate(placements):
        assert own == (sorted(cores[rank]) if ranks == 2 else mask)
        assert (threads, bound_by) == (1, "dist_llm" if ranks == 2 else "")
        assert all(thread_mask == own for thread_mask in masks)


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
