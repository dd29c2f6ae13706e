"""Whatever call fails, or is the last one before a kill or a power cut: checkpoints hold, and nothing is left."""

import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from dist_llm.atomic import write_text
from dist_llm.config import Config
from dist_llm.data.partial_folder import continued_folder
from dist_llm.settings import to_toml
from dist_llm.training.checkpoint import (
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
    val_loss,
)
from dist_llm.training.checkpoint_writer import CheckpointWriter
from dist_llm.training.metrics import MetricsLog, read_metrics
from dist_llm.training.run_dir import CONFIG, created_run_dir, locked, read_config
from tests.faults.system_calls import BROKEN, CRASHED, FAULTS, THROUGH, outcome

STEPS = (20, 30)
RECORDED = 100  # is added to a step that tells that its checkpoint has its loss


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """What reaches the disk is the test's affair: in this process, nothing is waited for."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def parts(step: int) -> dict[str, dict[str, np.ndarray]]:
    weights = np.arange(10_000, dtype=np.float32) * step
    return {"model": {"w": weights}, "optimizer": {"steps": np.array([step]), "m.w": weights + 1}}


def loss(step: int) -> float:
    return {10: 3.0, 20: 1.0, 30: 2.0}[step]


def check(run: Path) -> int:
    """Check all that is in a run folder, and return the step of its newest checkpoint."""
    for folder in list_checkpoints(run):
        saved, state = load_checkpoint(folder, Config().model)
        for part, arrays in parts(state["step"]).items():
            for name, array in arrays.items():
                assert np.array_equal(saved[part][name], array), (folder, part, name)
        assert state["val_loss"] in (None, loss(state["step"])), folder
    steps = [record["step"] for record in read_metrics(run)]
    assert steps == sorted(set(steps))
    return load_checkpoint(find_checkpoint(run), Config().model)[1]["step"]


def temporary(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".tmp", ".partial")]


def outcome_and_what_was_told(
    function: Callable[[Path, Callable[[int], object]], None], run: Path, fault: str, n: int
) -> tuple[int, bytes]:
    """Call ``function(run, written)`` in a process with a fault; return its outcome, and the steps that it told."""
    reader, writer = os.pipe()
    result = outcome(
        lambda: function(run, lambda step: os.write(writer, bytes([step]))), fault, n, run.with_name("grave")
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        return result, told.read()


def train(run: Path, written: Callable[[int], object] = lambda step: None) -> None:
    """Do to the disk what a run does in its steps 10 to 30; tell which checkpoints are there and have a loss."""
    with locked(run):
        writer, metrics = CheckpointWriter(run, 1, lambda text: None), MetricsLog(run, 10, say=lambda text: None)
        try:
            for step in STEPS:
                writer.write(parts(step), {"step": step, "val_loss": None}, {"config.json": "{}"})
                writer.wait()
                if not writer._failure:
                    written(step)
                writer.record_val_loss(step, loss(step))
                writer.wait()
                if not writer._failure and not writer._told:
                    written(RECORDED + step)
                metrics.write({"step": step, "loss": 1.0})
            writer.finish()
        finally:
            writer.close()
            metrics.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_checkpoints_hold(tmp_path, fault):
    whole = tmp_path / "whole"
    save_checkpoint(whole, parts(10), {"step": 10, "val_loss": loss(10)})
    (whole / CONFIG).write_text("whole")
    (whole / "metrics.jsonl").write_text('{"step": 10, "loss": 1.0}\n')
    outcomes = set()
    for n in count(1):
        run = tmp_path / "run"
        shutil.copytree(whole, run)
        result, told = outcome_and_what_was_told(train, run, fault, n)
        outcomes.add(result)
        assert result != BROKEN, n
        newest = check(run)
        assert newest >= max((step for step in told if step < RECORDED), default=10), (n, told)
        measured = [10, *(step - RECORDED for step in told if step > RECORDED)]
        assert val_loss(find_checkpoint(run, "best")) <= min(map(loss, measured)), (n, told)
        assert (run / CONFIG).read_text() == "whole"
        with locked(run):
            assert temporary(run) == [], n
        if result == THROUGH:
            break
        train(run)  # what it left is not in the way of another
        assert check(run) == 30
        assert temporary(run) == []
        shutil.rmtree(run)
        shutil.rmtree(run.with_name("grave"))
    assert n > 50
    assert [f.name for f in list_checkpoints(run)] == ["step-00000020", "step-00000030"]
    assert [val_loss(folder) for folder in list_checkpoints(run)] == [1.0, 2.0]
    assert (CRASHED in outcomes) == (fault not in ("input/output error", "full disk"))


def start(run: Path, written: Callable[[int], object] = lambda step: None) -> None:
    """Do to the disk what a run does up to its first checkpoint."""
    with created_run_dir(str(run)) as folder:
        write_text(folder / CONFIG, to_toml(Config()))
        write_text(folder / "tokenizer.json", "{}")
        writer, metrics = CheckpointWriter(folder, 1, lambda text: None), MetricsLog(folder, 0, say=lambda text: None)
        try:
            metrics.write({"step": 10, "loss": 1.0})
            writer.write(parts(10), {"step": 10, "val_loss": None}, last=True)
            writer.finish()
            written(10)
            metrics.write({"step": 20, "loss": 1.0})
        finally:
            writer.close()
            metrics.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_start_that_goes_wrong_is_not_in_the_way_of_another(tmp_path, fault):
    for n in count(1):
        run = tmp_path / "there" / "run"
        result, told = outcome_and_what_was_told(start, run, fault, n)
        assert result != BROKEN, n
        if told or (run.exists() and list_checkpoints(run)):
            assert read_config(run) == Config()
            assert check(run) == 10
        elif not read_metrics(run):
            start(run)
            assert read_config(run) == Config()
            assert check(run) == 10
        if result == THROUGH:
            break
        if run.exists():
            with locked(run):
                assert temporary(run) == []
        shutil.rmtree(tmp_path / "there", ignore_errors=True)
    assert n > 40


def fill(folder: Path) -> None:
    with continued_folder(folder) as partial:
        for name in ("a", "meta.json"):
            write_text(partial / name, "whole")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_comes_to_be_by_and_by_is_whole_or_continued(tmp_path, fault):
    for n in count(1):
        folder = tmp_path / "cache" / "folder"
        result = outcome(lambda folder=folder: fill(folder), fault, n, tmp_path / "grave")
        assert result != BROKEN, n
        if folder.exists():
            assert sorted(path.name for path in folder.iterdir()) == ["a", "meta.json"]
            assert {path.read_text() for path in folder.iterdir()} == {"whole"}
        else:
            fill(folder)
        if result == THROUGH:
            break
        fill(tmp_path / "cache" / "another")  # by which what has no owner is removed
        assert temporary(tmp_path / "cache") == []
        shutil.rmtree(tmp_path / "cache")
        shutil.rmtree(tmp_path / "grave")
    assert n > 15
