import numpy as np
import pytest

from dist_llm.data import Loader, validation_windows
from dist_llm.errors import UserError
from dist_llm.partition import shard


class Counting:
    """Token i is i: what a batch holds says where it was read."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def read(self, start: int, count: int) -> np.ndarray:
        assert 0 <= start <= start + count <= self.n
        return np.arange(start, start + count, dtype=np.int32)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 16, 50])
def test_each_window_occurs_exactly_once_in_each_epoch(batch_size):
    loader = Loader(Counting(10 * 19 + 5), batch_size, seq_len=10, seed=3)
    assert loader.n_sequences == 18
    n_epochs = 4
    n_steps = -(-n_epochs * loader.n_sequences // batch_size)
    ids = np.concatenate([loader.sequence_ids(step) for step in range(n_steps)])
    assert ids.dtype == np.int64
    orders = []
    for epoch in range(n_epochs):
        # Consecutive rows: one epoch ends before the next begins, in the middle of a batch or not.
        rows = ids[epoch * loader.n_sequences : (epoch + 1) * loader.n_sequences]
        assert set(rows[:, 0]) == {epoch}
        assert sorted(rows[:, 1]) == list(range(loader.n_sequences))
        orders.append(tuple(rows[:, 1]))
    assert len(set(orders)) == n_epochs
    assert tuple(range(loader.n_sequences)) not in orders


def test_targets_follow_inputs_and_no_target_repeats_in_an_epoch():
    loader = Loader(Counting(1000), batch_size=9, seq_len=10, seed=1)
    assert loader.n_sequences == 99
    targets = []
    for step in range(11):
        x, y = loader.batch(step)
        assert x.dtype == y.dtype == np.int32
        assert x.shape == y.shape == (9, 10)
        np.testing.assert_array_equal(y, x + 1)
        np.testing.assert_array_equal(np.diff(x, axis=1), 1)
        targets.append(y)
    targets = np.sort(np.concatenate(targets).ravel())
    np.testing.assert_array_equal(np.diff(targets), 1)


def test_a_batch_reads_the_windows_that_sequence_ids_names():
    loader = Loader(Counting(500), batch_size=60, seq_len=8, seed=1)
    ids = loader.sequence_ids(1)
    x, _ = loader.batch(1)
    offsets = {}
    for (epoch, index), first in zip(ids.tolist(), x[:, 0].tolist(), strict=True):
        assert offsets.setdefault(epoch, first - 8 * index) == first - 8 * index
    assert set(offsets) == {0, 1}


@pytest.mark.parametrize("n_tokens", [11, 12, 19, 20, 21, 29, 30, 95])
def test_offsets_take_every_value_that_fits(n_tokens):
    loader = Loader(Counting(n_tokens), batch_size=1, seq_len=10, seed=5)
    seen = set()
    offsets = set()
    for epoch in range(400):
        step = epoch * loader.n_sequences
        (_, index), x = loader.sequence_ids(step)[0], loader.batch(step)[0]
        offsets.add(int(x[0, 0]) - 10 * int(index))
    slack = n_tokens - 1 - 10 * loader.n_sequences
    assert offsets == set(range(slack + 1))
    assert n_tokens < 20 or slack >= 9
    for step in range(600):
        _, y = loader.batch(step)
        seen |= set(y.ravel().tolist())
    # Every token but the first is learned to be predicted sooner or later.
    assert seen == set(range(1, n_tokens))


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 16])
def test_the_ranks_shards_are_the_global_batch(batch_size, world_size):
    for step in (0, 1, 13):
        # A fresh loader for each rank, as in different processes.
        whole = Loader(Counting(300), batch_size, seq_len=8, seed=2).batch(step)
        parts = [
            Loader(Counting(300), batch_size, seq_len=8, seed=2).batch(step, rank, world_size)
            for rank in range(world_size)
        ]
        for i in range(2):
            np.testing.assert_array_equal(np.concatenate([part[i] for part in parts]), whole[i])


def test_a_step_does_not_depend_on_the_steps_before_it():
    walked = Loader(Counting(300), batch_size=16, seq_len=8, seed=2)
    batches = [walked.batch(step) for step in range(20)]
    for step in (19, 3, 11, 0):
        jumped = Loader(Counting(300), batch_size=16, seq_len=8, seed=2)
        np.testing.assert_array_equal(jumped.batch(step)[0], batches[step][0])
        np.testing.assert_array_equal(walked.batch(step)[0], batches[step][0])


def test_the_seed_decides_the_order():
    one, other = (Loader(Counting(3000), batch_size=16, seq_len=8, seed=seed).batch(0)[0] for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_an_epoch_is_drawn_once(monkeypatch):
    drawn = []
    loader = Loader(Counting(1000), batch_size=7, seq_len=10, seed=1)
    draw = Loader._draw_epoch

    def counted(self, epoch):
        drawn.append(epoch)
        return draw(self, epoch)

    monkeypatch.setattr(Loader, "_draw_epoch", counted)
    loader = Loader(Counting(1000), batch_size=7, seq_len=10, seed=1)
    for step in range(40):  # 280 sequences of 99 per epoch
        loader.batch(step)
    assert drawn == [0, 1, 2]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("n", [0, 1, 4, 7, 16])
def test_shards_are_contiguous_and_differ_by_one_at_most(n, world_size):
    parts = [list(range(n))[shard(n, rank, world_size)] for rank in range(world_size)]
    assert [i for part in parts for i in part] == list(range(n))
    sizes = [len(part) for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


def test_a_text_shorter_than_a_sequence_is_an_error():
    with pytest.raises(UserError) as error:
        Loader(Counting(10), batch_size=1, seq_len=10, seed=1)
    assert str(error.value) == (
        "the training text has 10 tokens, fewer than model.max_seq_len + 1 = 11: "
        "use a longer text or a smaller --model.max_seq_len"
    )
    assert Loader(Counting(11), batch_size=1, seq_len=10, seed=1).n_sequences == 1


@pytest.mark.parametrize("n_tokens", [2, 10, 11, 12, 21, 22, 105])
def test_validation_predicts_every_token_but_the_first_once(n_tokens):
    windows = validation_windows(Counting(n_tokens), seq_len=10)
    targets = [i + 1 for start, length in windows for i in range(start, start + length)]
    assert targets == list(range(1, n_tokens))
    assert all(length == 10 for _, length in windows[:-1])
    assert 1 <= windows[-1][1] <= 10


@pytest.mark.parametrize("n_tokens", [0, 1])
def test_validation_needs_something_to_predict(n_tokens):
    with pytest.raises(UserError, match=rf"has {n_tokens} tokens, at least 2 .* --data.val_fraction"):
        validation_windows(Counting(n_tokens), seq_len=10)
