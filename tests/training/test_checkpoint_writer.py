"""Checkpoints that a thread writes while the run goes on."""

import errno
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dist_llm.config import Config
from dist_llm.errors import UserError
from dist_llm.training import checkpoint, checkpoint_writer
from dist_llm.training.checkpoint import find_checkpoint, list_checkpoints, load_checkpoint
from dist_llm.training.checkpoint_state import read_state, val_loss
from dist_llm.training.checkpoint_writer import CheckpointWriter
from dist_llm.training.run_dir import locked
from tests.conftest import environment


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").touch()
    return tmp_path / "run"


@pytest.fixture
def said():
    return []


@pytest.fixture
def writer(run, said):
    writer = CheckpointWriter(run, 2, said.append)
    yield writer
    writer.close()


def parts(step: int) -> dict[str, dict[str, np.ndarray]]:
    return {"model": {"w": np.full(1000, step, np.float32)}, "strategy": {}}


def info(step: int) -> dict[str, object]:
    return {"step": step, "val_loss": None}


def steps(run: Path) -> list[int]:
    return [read_state(folder)["step"] for folder in list_checkpoints(run)]


def hold(monkeypatch) -> threading.Event:
    """Hold back the writing until the event is set."""
    event, write = threading.Event(), checkpoint.write_tensors
    monkeypatch.setattr(checkpoint, "write_tensors", lambda *args: event.wait(60) and write(*args))
    return event


def fail(monkeypatch, until: int) -> None:
    """Let the disk be full until a step's checkpoint."""
    write = checkpoint_writer.save_checkpoint

    def save(run_dir, parts, state, texts):
        if state["step"] < until:
            parts = {"model": {"w": NoRoom()}}
        return write(run_dir, parts, state, texts)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", save)


class NoRoom:
    itemsize = 4

    @property
    def nbytes(self) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_the_arrays_may_change_while_they_are_written(writer, run, monkeypatch):
    event = hold(monkeypatch)
    arrays = parts(1)
    writer.write(arrays, info(1))
    assert list_checkpoints(run) == []
    arrays["model"]["w"][...] = -1
    event.set()
    writer.finish()
    assert np.array_equal(
        load_checkpoint(find_checkpoint(run), Config().model)[0]["model"]["w"], parts(1)["model"]["w"]
    )


def test_the_next_one_waits_and_none_is_left_out(writer, run, monkeypatch):
    event = hold(monkeypatch)
    writer.write(parts(1), info(1))
    threading.Timer(0.2, event.set).start()
    writer.write(parts(2), info(2))
    assert event.is_set()
    assert steps(run)[0] == 1
    writer.finish()
    assert steps(run) == [1, 2]


def test_the_loss_is_recorded_once_it_is_written_and_the_best_is_kept(writer, run, monkeypatch):
    event = hold(monkeypatch)
    writer.write(parts(1), info(1))
    writer.record_val_loss(1, 1.5)
    event.set()
    for step, loss in ((2, 1.7), (3, None), (4, 2.0), (5, 1.25), (6, 1.9)):
        writer.write(parts(step), info(step))
        if loss:
            writer.record_val_loss(step, loss)
        if step == 4:
            writer.wait()
            assert steps(run) == [1, 3, 4]
    writer.finish()
    assert steps(run) == [5, 6]
    assert [val_loss(folder) for folder in list_checkpoints(run)] == [1.25, 1.9]
    assert find_checkpoint(run, "best").name == "step-00000005"


def test_a_full_disk_is_told_once_and_tried_again(writer, run, said, monkeypatch):
    writer.write(parts(1), info(1))
    writer.wait()
    fail(monkeypatch, until=4)
    for step in (2, 3):
        writer.write(parts(step), info(step))
        writer.record_val_loss(step, 1.0)
        writer.wait()
        assert steps(run) == [1]
    folder = run / "checkpoints" / "step-00000002"
    (told,) = said
    assert told.startswith(f"cannot write the checkpoint {folder}: ")
    assert "No space left on device; the run goes on, and tries again at its next checkpoint" in told
    writer.write(parts(4), info(4))
    writer.finish()
    assert steps(run) == [1, 4]
    fail(monkeypatch, until=6)
    writer.write(parts(5), info(5))
    writer.wait()
    assert len(said) == 2


def test_a_last_checkpoint_that_cannot_be_written_is_an_error_and_nothing_more(writer, run, said, monkeypatch):
    writer.write(parts(1), info(1))
    writer.wait()
    fail(monkeypatch, until=3)
    writer.write(parts(2), info(2), last=True)
    with pytest.raises(UserError, match=r"cannot write the checkpoint .*step-00000002: .*No space left"):
        writer.finish()
    assert said == []
    assert steps(run) == [1]


def test_a_checkpoint_of_the_same_step_counts_if_it_is_whole(writer, run):
    writer.write(parts(1), info(1))
    writer.finish()
    model = find_checkpoint(run) / "model.safetensors"
    written = model.stat()
    writer.write(parts(1), info(1))
    writer.finish()
    assert model.stat() == written
    model.write_bytes(b"damaged")
    writer.write(parts(1), info(1))
    writer.finish()
    assert find_checkpoint(run).name == "step-00000001"
    assert (run / "checkpoints/abandoned-step-00000001/model.safetensors").read_bytes() == b"damaged"


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_a_run_folder_that_is_gone_is_noticed_and_not_made_again(writer, run, how):
    writer.write(parts(1), info(1))
    writer.wait()
    shutil.rmtree(run) if how == "deleted" else shutil.move(run, run.with_name("elsewhere"))
    message = f"the run folder {run} has been deleted or moved"
    with pytest.raises(UserError, match=message):
        writer.write(parts(2), info(2))
    with pytest.raises(UserError, match=message):
        writer.finish()
    assert not run.exists()


def test_a_last_checkpoint_that_is_deleted_is_noticed(writer, run):
    writer.write(parts(1), info(1))
    writer.wait()
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match="step-00000001 has been deleted while the run was under way"):
        writer.finish()


def test_a_bug_in_the_thread_is_not_lost(writer, monkeypatch):
    monkeypatch.setattr(checkpoint_writer, "prune_checkpoints", lambda *_: 1 / 0)
    writer.write(parts(1), info(1))
    with pytest.raises(ZeroDivisionError):
        writer.finish()


def test_readers_find_a_checkpoint_while_others_are_removed(writer, run):
    """As soon as one is found it may be gone: never is there none, or one that is damaged."""
    writer.write(parts(1), info(1))
    writer.wait()
    end, found = threading.Event(), []

    def read() -> None:
        while not end.is_set():
            try:
                found.append(find_checkpoint(run, "best").name)
            except Exception as error:
                found.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for step in range(2, 60):
        writer.write(parts(step), info(step))
        writer.record_val_loss(step, 1 / step)
    end.set()
    for reader in readers:
        reader.join()
    assert not [error for error in found if isinstance(error, Exception)]
    assert len(set(found)) > 3


# A program for kill_at_random.
LOOP = """
import sys
from pathlib import Path
import numpy as np
from dist_llm.training.checkpoint_writer import CheckpointWriter
from dist_llm.training.run_dir import locked
run, step = Path(sys.argv[1]), int(sys.argv[2])
with locked(run):
    writer = CheckpointWriter(run, 1)
    print("ready", flush=True)
    while True:
        step += 1
        writer.write({"model": {"w": np.full(100_000, step, np.float32)}}, {"step": step, "val_loss": None})
        writer.record_val_loss(step, abs(step % 7 - 3.0))
        writer.wait()
        print(step, flush=True)
"""


def kill_at_random(run: Path, times: int) -> int:
    """Kill a process that writes checkpoints, at random moments; return the step of the last one."""
    rng = np.random.default_rng(0)
    newest = 0
    for _ in range(times):
        command = [sys.executable, "-c", LOOP, str(run), str(newest)]
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        told = [int(line) for line in process.stdout.read().split()]
        process.wait()
        process.stdout.close()
        if told or list_checkpoints(run):
            saved, state = load_checkpoint(find_checkpoint(run), Config().model)
            assert state["step"] >= max(told, default=newest)
            newest = state["step"]
            assert (saved["model"]["w"] == newest).all()
        with locked(run):  # its lock has not outlived it
            assert [path for path in run.rglob("*") if path.suffix == ".tmp"] == []
    return newest


def test_kills_at_random_lose_nothing_that_was_written(run):
    assert kill_at_random(run, 5) > 5
