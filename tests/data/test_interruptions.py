"""Preparations that end before they are done: nothing is left of an error, and an interrupted one goes on."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from dist_llm import atomic
from dist_llm.data import corpora, encoding, open_data, preparation, prepare, vocabulary
from dist_llm.errors import RunError, UserError
from tests.conftest import environment
from tests.data.stories import cached, contents

STEPS = [
    (corpora, "_read_files"),
    (preparation, "split"),
    (vocabulary, "save_tokenizer"),
    (vocabulary, "train_tokenizer"),
    (preparation, "encode"),
    (encoding, "write_shard"),
    (preparation, "TokenShards"),
    (atomic, "fsync"),
]


def interrupt_second(monkeypatch, module, step, error):
    """Raise an error in a step of the preparation, the second time that it is taken if there is one."""
    calls = []
    real = getattr(module, step)

    def fail_late(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2 or step not in ("encode", "write_shard", "fsync", "TokenShards"):
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(module, step, fail_late)
    return calls


@pytest.mark.parametrize(("module", "step"), STEPS)
def test_an_error_in_a_preparation_leaves_nothing(config, monkeypatch, module, step):
    calls = interrupt_second(monkeypatch, module, step, RuntimeError)
    with pytest.raises(RuntimeError):
        prepare(config)
    assert calls
    assert cached(config) == []
    monkeypatch.undo()
    open_data(prepare(config))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RunError, OSError])
@pytest.mark.parametrize(("module", "step"), STEPS)
def test_an_interrupted_preparation_goes_on(config, monkeypatch, module, step, error):
    whole = contents(prepare(dataclasses.replace(config, cache_dir=config.cache_dir + "-whole")))
    calls = interrupt_second(monkeypatch, module, step, error("interrupted"))
    told = []
    with pytest.raises(UserError if error is OSError else error):
        prepare(config, say=told.append)
    assert calls
    (left,) = cached(config)
    assert left.startswith(".stories-bpe-")
    assert left.endswith(".partial")
    assert error is not KeyboardInterrupt or "the same command goes on where this one stopped" in told[-1]
    monkeypatch.undo()
    assert contents(prepare(config)) == whole
    assert cached(config) == [left[1:].removesuffix(".partial")]


PROGRAM = """
import os, sys
from dist_llm.config import DataConfig
from dist_llm.data import encoding, preparation
encoding.UNIT_BYTES = 100
write, written = encoding.write_shard, []
def write_and_die(*args):
    write(*args)
    written.append(args)
    if len(written) == 4:
        os.kill(os.getpid(), 9)
encoding.write_shard = write_and_die
preparation.prepare(DataConfig(path=sys.argv[1], cache_dir=sys.argv[2], vocab_size=300))
"""


def test_a_preparation_that_was_killed_goes_on_with_what_is_whole(config, monkeypatch):
    monkeypatch.setattr(encoding, "UNIT_BYTES", 100)
    whole = contents(prepare(dataclasses.replace(config, cache_dir=config.cache_dir + "-whole")))
    command = [sys.executable, "-c", PROGRAM, config.path, config.cache_dir]
    assert subprocess.run(command, env=environment(), timeout=60).returncode == -9
    (partial,) = (Path(config.cache_dir) / name for name in cached(config))
    shards = sorted(partial.glob("*.bin"))
    assert len(shards) == 4
    shards[1].write_bytes(shards[1].read_bytes()[:-1])

    read, told, written = [], [], []
    read_files, write_shard = corpora._read_files, encoding.write_shard
    monkeypatch.setattr(corpora, "_read_files", lambda *args: read.append(args) or read_files(*args))
    monkeypatch.setattr(encoding, "write_shard", lambda path, *args: written.append(path) or write_shard(path, *args))
    folder = prepare(config, say=told.append)
    assert contents(folder) == whole
    assert not read
    assert set(shards) - set(written) == {shards[0], *shards[2:]}
    assert f"going on with what an interrupted preparation has left in {partial}" in told


@pytest.mark.parametrize("damaged", ["documents.txt", "documents.table", "documents.json", "tokenizer.json"])
def test_what_is_damaged_is_made_again(config, monkeypatch, damaged):
    whole = contents(prepare(dataclasses.replace(config, cache_dir=config.cache_dir + "-whole")))
    interrupt_second(monkeypatch, encoding, "write_shard", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        prepare(config)
    monkeypatch.undo()
    (partial,) = (Path(config.cache_dir) / name for name in cached(config))
    content = (partial / damaged).read_bytes()
    (partial / damaged).write_bytes(content[: len(content) // 2])
    assert contents(prepare(config)) == whole


def test_what_is_left_of_another_text_is_not_used(config, monkeypatch, tmp_path):
    named = dataclasses.replace(config, shards=str(tmp_path / "mine"))
    interrupt_second(monkeypatch, encoding, "write_shard", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        prepare(named)
    monkeypatch.undo()
    Path(config.path).write_text("Another text altogether. " * 50)
    assert contents(prepare(named)) == contents(prepare(config))


def test_pairs_do_not_go_on_from_what_is_left_of_a_text(config, monkeypatch, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"prompt": f"{i}?", "completion": "Yes."}) + "\n" for i in range(50)))
    named = dataclasses.replace(config, shards=str(tmp_path / "mine"))
    monkeypatch.setattr(encoding, "UNIT_BYTES", 100)
    interrupt_second(monkeypatch, encoding, "write_shard", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        prepare(named)
    monkeypatch.undo()
    settings = {"path": str(pairs), "completions": True, "tokenizer": "byte"}
    there, fresh = (prepare(dataclasses.replace(c, **settings)) for c in (named, config))
    assert contents(there) == contents(fresh)
