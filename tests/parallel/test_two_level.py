"""Sums over hosts in two levels; pairs of ranks stand for hosts, the last one of one rank where their number is odd."""

import numpy as np
import pytest

from dist_llm.parallel.two_level import LEAST_BYTES, TwoLevelSum

N = LEAST_BYTES // 4 + 7

pytestmark = pytest.mark.mpi


@pytest.fixture
def hosts(world):
    if world.size == 1:
        pytest.skip("a rank alone has no communicator of MPI's")
    whole = world._comm
    return TwoLevelSum(world._mpi, whole, whole.Split(world.rank // 2, world.rank))


def test_it_pays_only_with_several_hosts_of_several_ranks(world, hosts):
    assert hosts.pays == (world.size > 2)
    one_each = TwoLevelSum(world._mpi, world._comm, world._comm.Split(world.rank, 0))
    assert not one_each.pays


def test_integers_sum_up_to_the_same_bits(world, hosts):
    numbers = [np.random.default_rng(rank).integers(-(2**40), 2**40, N) for rank in range(world.size)]
    array = numbers[world.rank].copy()
    hosts.allreduce_(array)
    assert np.array_equal(array, np.sum(numbers, axis=0))


def test_floats_sum_up_alike_on_all_ranks(world, hosts):
    numbers = [np.random.default_rng(rank).standard_normal(N).astype(np.float32) for rank in range(world.size)]
    array = numbers[world.rank].copy()
    hosts.allreduce_(array)
    np.testing.assert_allclose(array, np.sum(numbers, axis=0, dtype=np.float64), rtol=0, atol=2e-6)
    assert len(set(world.allgather(array.tobytes()))) == 1


def test_the_communicator_uses_it_for_what_is_large(world, hosts, monkeypatch):
    summed = []
    monkeypatch.setattr(hosts, "allreduce_", lambda array: summed.append(array.size))
    monkeypatch.setattr(world, "_hosts", hosts)
    world.allreduce_(np.ones(3))
    assert not summed
    world.allreduce_(np.ones(N, np.float32))
    assert summed == ([N] if world.size > 2 else [])
