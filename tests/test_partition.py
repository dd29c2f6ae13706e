import pytest

from dist_llm.partition import consecutive, deal, partition, shard, sizes


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
    assert partition(100, 2, {b: b for b in (0, 10, 45, 60, 100)}) == [slice(0, 45), slice(45, 100)]
    assert partition(100, 4, {b: b for b in (0, 10, 60, 100)}) == [
        slice(0, 10), slice(10, 60), slice(60, 60), slice(60, 100)
    ]  # fmt: skip
    assert partition(100, 3, {0: 0, 100: 1}) == [slice(0, 0), slice(0, 100), slice(100, 100)]


def test_cuts_divide_the_cost():
    assert partition(100, 2, {0: 0, 50: 1, 90: 5, 95: 9, 100: 10}) == [slice(0, 90), slice(90, 100)]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_items_are_dealt_out_by_their_costs(n):
    costs = [3.0, 1.0, 1.0, 5.0, 2.0, 2.0, 4.0]
    hands = deal(costs, n)
    assert sorted(item for hand in hands for item in hand) == list(range(7))
    assert all(hand == sorted(hand) for hand in hands)
    assert max(sum(costs[item] for item in hand) for hand in hands) <= 4 / 3 * max(5, sum(costs) / n)
    assert deal([1.0], 3) == [[0], [], []]
    assert deal([], 2) == [[], []]


def test_consecutive():
    assert consecutive([2, 0, 3]) == [slice(0, 2), slice(2, 2), slice(2, 5)]
    assert sizes(consecutive([2, 0, 3])) == [2, 0, 3]
