import pytest

from dist_llm.partition import consecutive, partition, shard, sizes


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("n", [0, 1, 4, 7, 16, 100])
@pytest.mark.parametrize("granularity", [1, 2, 5])
def test_shards_join_to_the_whole_and_differ_by_one_group_at_most(n, world_size, granularity):
    shards = [shard(n, rank, world_size, granularity) for rank in range(world_size)]
    assert [i for s in shards for i in range(n)[s]] == list(range(n))
    assert all(s.start % granularity == 0 or s.start == n for s in shards)
    groups = [-(-size // granularity) for size in sizes(shards)]
    assert groups == sorted(groups, reverse=True)
    assert max(groups) - min(groups) <= 1


def test_cuts_go_to_the_nearest_boundary():
    assert partition(100, 2) == [slice(0, 50), slice(50, 100)]
    assert partition(100, 2, [0, 10, 45, 60, 100]) == [slice(0, 45), slice(45, 100)]
    assert partition(100, 4, [0, 10, 60, 100]) == [slice(0, 10), slice(10, 60), slice(60, 60), slice(60, 100)]
    assert partition(100, 3, [0, 100]) == [slice(0, 0), slice(0, 100), slice(100, 100)]


def test_consecutive():
    assert consecutive([2, 0, 3]) == [slice(0, 2), slice(2, 2), slice(2, 5)]
    assert sizes(consecutive([2, 0, 3])) == [2, 0, 3]
