"""Whole trainings on several ranks: what they compute, with every strategy, and when another number goes on.

Run by ``mpirun -n N python -m pytest --with-mpi -m mpi`` for N = 1, 2, 3 and 4. References are trained by rank 0 alone,
without MPI, while the others wait.
"""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dist_llm import evaluate
from dist_llm.config import DataConfig
from dist_llm.data import prepare
from dist_llm.data.loader import Loader
from dist_llm.data.shards import TokenShards
from dist_llm.errors import UserError
from dist_llm.parallel import hosts
from dist_llm.partition import shard
from dist_llm.training import broadcast_tokens
from dist_llm.training import run as run_module
from dist_llm.training.metrics import read_metrics
from tests.training.runs_on_ranks import ADAMW, COMMON, FILES, STEPS, assert_close, assert_equal, folder, losses

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def plain(world, request, tmp_path_factory, text_file) -> Path:
    """The run of COMMON in one process without MPI, made once."""
    from dist_llm.parallel.comm import SerialComm
    from dist_llm.train import main
    from tests.conftest import TINY

    where = Path(world.allgather(str(tmp_path_factory.mktemp("plain")))[0])
    if world.rank == 0:
        paths = [f"--data.path={text_file}", f"--data.cache_dir={where / 'cache'}", f"--train.run_dir={where / 'run'}"]
        assert main([*TINY, *paths, *COMMON], SerialComm()) == 0
    world.allgather(None)
    return where / "run"


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_every_tensor_agrees_with_the_single_process_after_20_steps(world, train_on, dropout):
    # A batch of 7 divides by none of 2, 3 and 4 ranks, and micro-batches of 2 do not divide the shards.
    more = [f"--train.max_steps={STEPS}", f"--model.dropout={dropout}", ADAMW]
    serial, start = train_on(0, "serial", *more), train_on(0, "start", *more, "--train.max_steps=1")
    ranks = train_on(world.size, "ranks", *more)
    before, expected, got = (
        load_file(folder(run, step) / "model.safetensors")
        for run, step in ((start, 1), (serial, STEPS), (ranks, STEPS))
    )
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        # Every tensor has moved by much more than the tolerance below: agreement means something.
        assert np.linalg.norm(value - before[name]) > 1e-3 * np.linalg.norm(before[name]), name
        assert np.linalg.norm(got[name] - value) < 1e-5 * np.linalg.norm(value), name
    for record, reference in zip(read_metrics(ranks), read_metrics(serial), strict=True):
        for key in ("step", "tokens", "lr"):
            assert record[key] == reference[key]
        for key in {"loss", "grad_norm", "val_loss", "val_bits_per_byte"} & reference.keys():
            assert record[key] == pytest.approx(reference[key], rel=1e-4), (record["step"], key)


@pytest.mark.parametrize("strategy", ["overlapped", "sharded"])
def test_every_tensor_is_that_of_the_plain_strategy(world, train_on, plain, strategy):
    more = [f"--parallel.strategy={strategy}", "--parallel.bucket_bytes=3000"]
    assert_close(folder(train_on(world.size, "ranks", *COMMON, *more)), folder(plain))


def test_deterministic_is_the_same_in_every_bit(world, train_on, plain):
    deterministic = "--parallel.strategy=deterministic"
    alone, ranks = (train_on(n, f"ranks-{n}", *COMMON, deterministic) for n in (0, world.size))
    assert_equal(folder(ranks), folder(alone))
    assert losses(ranks) == losses(alone)
    assert_close(folder(alone), folder(plain))


def test_local_steps_of_a_single_rank_are_ordinary_steps(train_on, plain):
    """With an outer step that goes just where the inner ones went."""
    options = ["--parallel.strategy=local", "--parallel.local_steps=3", "--parallel.outer_momentum=0"]
    assert_close(folder(train_on(1, "local", *COMMON, *options, "--parallel.outer_lr=1")), folder(plain))


def test_local_steps_average_and_learn(world, train_on):
    """Their sums are checked against the algorithm as published; here, that a training of them holds together."""
    more = [*COMMON, "--parallel.strategy=local", "--parallel.local_steps=4", "--train.max_steps=40"]
    found = losses(train_on(world.size, "local", *more))  # replicas are compared every five steps
    assert found[-1][1] < found[0][1] - 0.5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits_change_every_tensor_a_little(world, train_on, plain, dtype):
    options = ["--parallel.strategy=blocking", f"--parallel.reduce_dtype={dtype}"]
    got = load_file(folder(train_on(world.size, dtype, *COMMON, *options)) / "model.safetensors")
    for name, value in load_file(folder(plain) / "model.safetensors").items():
        assert 0 < np.linalg.norm(got[name] - value) / np.linalg.norm(value) < 0.05, name


@pytest.mark.parametrize("strategy", ["overlapped", "sharded", "deterministic", "local", "blocking"])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(world, train_on, strategy, capfd):
    # The learning rate of the first ten steps must be that of a run of twenty: it is constant.
    more = [*COMMON, f"--parallel.strategy={strategy}", "--parallel.local_steps=4", "--train.checkpoint_interval=10"]
    if strategy == "local":
        more += ["--parallel.reduce_dtype=int8"]  # with something kept for the next round
    whole = train_on(world.size, "whole", *more)
    broken = train_on(world.size, "broken", *more, "--train.max_steps=10")
    train_on(world.size, None, "--resume", "broken", f"--train.max_steps={STEPS}")
    assert world.rank > 0 or "continued after step 10" in capfd.readouterr().out
    assert (folder(whole) / "strategy.safetensors").exists() == (strategy == "local")
    assert_equal(folder(broken), folder(whole))


@pytest.mark.parametrize(("first", "second"), [(1, 3), (4, 2), (2, 0)])
def test_a_run_continues_on_another_number_of_ranks(comm_of, train_on, plain, first, second):
    comm_of(max(first, second))  # or skip
    broken = train_on(first, "broken", *COMMON, "--train.max_steps=10")
    train_on(second, None, "--resume", "broken", f"--train.max_steps={STEPS}")
    assert_close(folder(broken), folder(plain))


def test_a_checkpoint_of_any_strategy_goes_on_in_any_other(comm_of, train_on, plain):
    comm_of(4)
    run = train_on(3, "a", *COMMON, "--train.max_steps=5", "--parallel.strategy=sharded")
    for ranks, strategy, last in ((2, "overlapped", 10), (0, "deterministic", 15), (4, "sharded", 20)):
        train_on(ranks, None, "--resume", "a", f"--train.max_steps={last}", f"--parallel.strategy={strategy}")
    assert_close(folder(run), folder(plain))
    # From ranks by themselves there is a way too, though to other numbers.
    local = train_on(3, "local", *COMMON, "--train.max_steps=10", "--parallel.strategy=local")
    for strategy, last in (("local", 15), ("blocking", 20)):
        train_on(2, None, "--resume", "local", f"--train.max_steps={last}", f"--parallel.strategy={strategy}")
    assert losses(local)[-1][1] < losses(local)[0][1]


class RecordingLoader(Loader):
    """Writes down, for each batch, the step and the ids of the sequences that this rank got."""

    record: list[tuple[int, list]]

    def batch(self, step, rank=0, world_size=1, granularity=1):
        mine = self.sequence_ids(step)[shard(self.batch_size, rank, world_size, granularity)]
        batch = super().batch(step, rank, world_size, granularity)
        assert len(batch[0]) == len(mine)
        self.record.append((step, [tuple(i) for i in mine.tolist()]))
        return batch


def test_data_goes_on_unbroken_on_any_number_of_ranks(world, train_on, monkeypatch, mpi_tmp_path):
    """And in deterministic mode, so do the bits of every weight."""
    monkeypatch.setattr(run_module, "Loader", RecordingLoader)
    more = [*COMMON, "--train.max_steps=12", "--parallel.strategy=deterministic"]

    def recorded(n: int, *arguments: str | None) -> list[tuple[int, list]]:
        RecordingLoader.record = []
        train_on(n, *arguments)
        return [line for lines in world.allgather(RecordingLoader.record) for line in lines]

    expected = recorded(0, "whole", *more)
    # Of the pairs with fewer ranks, tests of fewer ranks take care.
    numbers = range(world.size + 1)
    pairs = [(first, second) for first in numbers for second in numbers if max(first, second) == world.size]
    before = {first: recorded(first, f"from-{first}", *more, "--train.max_steps=5") for first in numbers}
    for first, second in pairs:
        name = f"from-{first}-to-{second}"
        if world.rank == 0:
            shutil.copytree(mpi_tmp_path / f"from-{first}", mpi_tmp_path / name)
        got = before[first] + recorded(second, None, "--resume", name, "--train.max_steps=12")
        # None twice, none left out.
        assert Counter(i for _, ids in got for i in ids) == Counter(i for _, ids in expected for i in ids)
        assert {step for step, _ in got} == set(range(12))
        for file in FILES:
            mine, theirs = (folder(mpi_tmp_path / run, 12) / file for run in (name, "whole"))
            assert mine.read_bytes() == theirs.read_bytes(), (first, second, file)


def test_hosts_without_the_text_are_sent_it(comm_of, world, train_on, monkeypatch, capfd):
    comm_of(2)
    near = train_on(world.size, "near", "--train.max_steps=6")
    if world.rank > 0:

        def nothing_here(folder: Path, verify: bool) -> None:
            raise UserError(f"{folder} is missing")

        monkeypatch.setattr(broadcast_tokens, "open_data", nothing_here)
    capfd.readouterr()
    far = train_on(world.size, "far", "--train.max_steps=6")
    others = ", ".join(map(str, range(1, world.size)))
    assert world.rank > 0 or f"no shards where rank {others} runs: rank 0 sent the tokens" in capfd.readouterr().out
    assert_equal(folder(far, 6), folder(near, 6))
    assert [m.get("val_bits_per_byte") for m in read_metrics(far)] == [
        m.get("val_bits_per_byte") for m in read_metrics(near)
    ]


def test_a_copy_is_checked_once_on_its_host_and_replaced_if_it_is_damaged(comm_of, world, mpi_tmp_path, monkeypatch):
    comm_of(2)
    own = mpi_tmp_path / f"host-of-{world.rank}"
    own.mkdir()
    text = own / "text.txt"
    text.write_text("".join(f"{i} " for i in range(3000)))
    shards = prepare(DataConfig(path=str(text), tokenizer="byte", cache_dir=str(own / "cache")))
    host = "near" if world.rank == 0 else "far"
    monkeypatch.setattr(hosts.platform, "node", lambda: host)
    checked = []
    verify = TokenShards.verify
    monkeypatch.setattr(TokenShards, "verify", lambda self: checked.append(1) or verify(self))
    data, received = broadcast_tokens.broadcast_tokens(shards, world)
    expected = data.train.read(0, len(data.train))
    assert received == []
    assert len(checked) == (2 if world.rank < 2 else 0)  # two splits

    if world.rank > 0:
        file = shards / "train-00000.bin"
        file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    data, received = broadcast_tokens.broadcast_tokens(shards, world)
    assert received == list(range(1, world.size))
    assert np.array_equal(data.train.read(0, len(data.train)), expected)


def test_evaluation_is_the_same_number_on_any_number_of_ranks(world, plain, capfd):
    if world.rank == 0:
        from dist_llm.parallel.comm import SerialComm

        assert evaluate.main([str(plain), "--threads=1"], SerialComm()) == 0
    expected = capfd.readouterr().out
    assert evaluate.main([str(plain), "--threads=1"], world) == 0
    assert capfd.readouterr().out == expected
    assert ('"loss": ' in expected) == (world.rank == 0)


def test_the_documents_of_a_text_are_the_same_numbers_on_any_number_of_ranks(world, plain, capfd, mpi_tmp_path):
    text = mpi_tmp_path / "text.txt"
    if world.rank == 0:
        text.write_text(
            "\n<|endoftext|>\n".join("the king and his men went up the hill"[: 3 * i] for i in range(1, 12))
        )
    world.allgather(None)
    arguments = [str(plain), "--threads=1", "--text", str(text), "--per-document"]
    if world.rank == 0:
        from dist_llm.parallel.comm import SerialComm

        assert evaluate.main(arguments, SerialComm()) == 0
    expected = capfd.readouterr().out
    assert evaluate.main(arguments, world) == 0
    assert capfd.readouterr().out == expected
    assert expected.count('"loss": ') == (12 if world.rank == 0 else 0)
