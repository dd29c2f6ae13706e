"""Which of a run's checkpoints are found, kept and set aside."""

import shutil
from pathlib import Path

import pytest

from dist_llm.errors import UserError
from dist_llm.training import checkpoint
from dist_llm.training.checkpoint import (
    DamagedCheckpointError,
    find_checkpoint,
    list_checkpoints,
)
from dist_llm.training.pruning import prune_checkpoints, set_aside_later_checkpoints
from dist_llm.training.run_dir import run_dir_of
from tests.training.saved import save


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "empty"])
def test_a_damaged_checkpoint_is_refused_by_name_and_the_last_good_one_offered(tmp_path, name, damage):
    good, bad = save(tmp_path, 10), save(tmp_path, 20)
    (tmp_path / "config.toml").touch()
    path = bad / name
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[:-7])
    elif damage == "altered":
        middle = content.index(b"20") if name == "state.json" else len(content) - 9
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"")
    with pytest.raises(DamagedCheckpointError, match=f"{bad} is damaged: {name}.*; the last good one is {good}"):
        find_checkpoint(tmp_path)
    with pytest.raises(DamagedCheckpointError, match=f"{bad} is damaged"):
        find_checkpoint(bad)
    assert find_checkpoint(good) == good


def test_when_none_is_good_the_message_says_so(tmp_path):
    (save(tmp_path, 10) / "model.safetensors").unlink()
    with pytest.raises(DamagedCheckpointError, match="no other checkpoint is good"):
        find_checkpoint(tmp_path)


def test_a_run_without_checkpoints_and_no_run_at_all(tmp_path):
    with pytest.raises(UserError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)
    with pytest.raises(UserError, match="there is no run folder"):
        find_checkpoint(tmp_path / "nowhere")


def test_the_last_and_the_best_are_found(tmp_path):
    for step, loss in ((10, 2.0), (20, 1.0), (30, 1.5), (40, None)):
        save(tmp_path, step, loss)
    assert find_checkpoint(tmp_path).name == "step-00000040"
    assert find_checkpoint(tmp_path, "best").name == "step-00000020"


def test_the_last_k_and_the_best_are_kept(tmp_path):
    for step, loss in ((10, 2.0), (20, 1.0), (30, 1.5), (40, None), (50, 1.2)):
        save(tmp_path, step, loss)
        prune_checkpoints(tmp_path, keep=2)
    assert [f.name for f in list_checkpoints(tmp_path)] == ["step-00000020", "step-00000040", "step-00000050"]


def test_later_checkpoints_are_set_aside_not_lost(tmp_path):
    for step in (10, 20, 30):
        save(tmp_path, step)
    (tmp_path / "checkpoints/step-00000030/state.json").write_text("{")
    for _ in range(2):
        set_aside_later_checkpoints(tmp_path, 10)
        assert find_checkpoint(tmp_path).name == "step-00000010"
        assert len(list((tmp_path / "checkpoints").glob("abandoned-step-*"))) == 2
        save(tmp_path, 20)


def test_a_crash_while_pruning_leaves_whole_checkpoints_only(tmp_path, monkeypatch):
    for step in (10, 20, 30):
        save(tmp_path, step)
    remove = shutil.rmtree

    def crash_half_way(folder, *args, **kwargs):
        next(folder.iterdir()).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", crash_half_way)
    with pytest.raises(KeyboardInterrupt):
        prune_checkpoints(tmp_path, keep=1)
    monkeypatch.setattr(shutil, "rmtree", remove)
    for folder in list_checkpoints(tmp_path):
        checkpoint.verify_checkpoint(folder)
    prune_checkpoints(tmp_path, keep=1)
    assert [f.name for f in list_checkpoints(tmp_path)] == ["step-00000030"]


def test_a_damaged_old_checkpoint_is_not_in_the_way(tmp_path):
    for step, loss in ((10, 1.0), (20, 2.0), (30, float("nan")), (40, 3.0)):
        save(tmp_path, step, loss)
    (tmp_path / "checkpoints/step-00000010/state.json").write_text("{")
    assert find_checkpoint(tmp_path).name == "step-00000040"
    prune_checkpoints(tmp_path, keep=1)
    assert [f.name for f in list_checkpoints(tmp_path)] == ["step-00000020", "step-00000040"]


@pytest.mark.parametrize("name", ["state.json", "model.safetensors"])
def test_a_damaged_best_checkpoint_is_not_silently_replaced_by_another(tmp_path, name):
    for step, loss in ((10, 1.0), (20, 2.0), (30, float("nan")), (40, 3.0)):
        save(tmp_path, step, loss)
    best, others_best = (tmp_path / f"checkpoints/step-000000{step}" for step in (10, 20))
    (best / name).write_text("{")
    message = f"{best} is damaged: {name} .*; the best good one is {others_best}: name it instead of {tmp_path}$"
    with pytest.raises(DamagedCheckpointError, match=message):
        find_checkpoint(tmp_path, "best")


def test_only_checkpoints_are_taken_for_checkpoints(tmp_path):
    for step in (5, 99_999_999, 100_000_000):
        save(tmp_path, step)
    shutil.copytree(tmp_path / "checkpoints/step-00000005", tmp_path / "checkpoints/step-00000005-backup")
    assert [f.name for f in list_checkpoints(tmp_path)] == ["step-00000005", "step-99999999", "step-100000000"]


@pytest.mark.parametrize("name", ["run", "checkpoints", "checkpoints/x"])
def test_a_run_and_its_checkpoints_are_told_apart_whatever_they_are_called(tmp_path, monkeypatch, name):
    folder = save(tmp_path / name, 10)
    (tmp_path / name / "config.toml").touch()
    assert find_checkpoint(tmp_path / name) == folder
    assert find_checkpoint(folder) == folder
    assert run_dir_of(folder) == run_dir_of(tmp_path / name) == tmp_path / name
    monkeypatch.chdir(folder)
    assert find_checkpoint(Path(".")) == Path(".")
    assert run_dir_of(Path(".")) == tmp_path / name


def test_a_checkpoint_moves_with_its_run(tmp_path):
    save(tmp_path / "run", 10)
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    assert find_checkpoint(tmp_path / "elsewhere").parent.parent.name == "elsewhere"
