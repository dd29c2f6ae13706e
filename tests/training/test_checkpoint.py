"""What a checkpoint holds, and how it is written and read."""

import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dist_llm import atomic
from dist_llm.config import ModelConfig
from dist_llm.errors import UserError
from dist_llm.training import checkpoint
from dist_llm.training.checkpoint import (
    DamagedCheckpointError,
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from dist_llm.training.pruning import set_aside_later_checkpoints
from tests.training.saved import CONFIG, new, parts, save


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path):
    folder = save(tmp_path, 20, 1.5)
    assert folder == tmp_path / "checkpoints" / "step-00000020"
    assert sorted(p.name for p in folder.iterdir()) == [
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]
    saved, state = load_checkpoint(folder, CONFIG)
    assert saved.keys() == {"model", "optimizer"}
    model, optimizer = new()
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    expected, expected_optimizer = new(20)
    assert np.array_equal(model.params.data, expected.params.data)
    assert np.array_equal(optimizer.m, expected_optimizer.m)
    assert np.array_equal(optimizer.v, expected_optimizer.v)
    assert optimizer.steps == 20
    assert (state["step"], state["val_loss"]) == (20, 1.5)


def test_what_a_strategy_keeps_is_saved_and_guarded_too(tmp_path):
    others = {"momentum": np.arange(5.0, dtype=np.float32)}
    folder = save_checkpoint(tmp_path, parts(3) | {"strategy": others}, {"step": 3})
    assert load_checkpoint(folder, CONFIG)[0]["strategy"]["momentum"].tolist() == [0, 1, 2, 3, 4]
    (folder / "strategy.safetensors").unlink()
    with pytest.raises(DamagedCheckpointError, match=r"strategy\.safetensors is missing"):
        load_checkpoint(folder, CONFIG)


def test_weights_alone_are_a_checkpoint(tmp_path):
    folder = save_checkpoint(tmp_path, {"model": parts(3)["model"]}, {"step": 3})
    assert sorted(p.name for p in folder.iterdir()) == ["model.safetensors", "state.json"]
    assert find_checkpoint(tmp_path) == folder
    model, _ = new()
    assert load_weights(folder, model)["step"] == 3
    assert np.array_equal(model.params.data, new(3)[0].params.data)


def test_without_weights_it_is_none(tmp_path):
    save_checkpoint(tmp_path, {"optimizer": parts(3)["optimizer"]}, {"step": 3})
    with pytest.raises(DamagedCheckpointError, match=r"model\.safetensors is missing"):
        find_checkpoint(tmp_path)


def test_the_strategys_part_of_older_versions_is_read(tmp_path):
    folder = save_checkpoint(tmp_path, parts(3) | {"reduction": {"momentum": np.ones(2)}}, {"step": 3})
    saved, _ = load_checkpoint(folder, CONFIG)
    assert saved["strategy"]["momentum"].tolist() == [1, 1]


def test_tensor_names_are_hugging_faces(tmp_path):
    tensors = load_file(save(tmp_path, 1) / "model.safetensors")
    assert tensors["model.layers.0.self_attn.q_proj.weight"].shape == (8, 8)
    assert tensors["model.embed_tokens.weight"].shape == (11, 8)
    assert "lm_head.weight" not in tensors  # tied


def test_all_files_have_the_permissions_of_the_users_choice(tmp_path):
    modes = {stat.S_IMODE(p.stat().st_mode) for p in save(tmp_path, 1).iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("moment", range(1, 10))
def test_a_crash_at_any_moment_leaves_whole_checkpoints_only(tmp_path, monkeypatch, moment):
    """Whatever call to the disk is the last one before the crash."""
    save(tmp_path, 10)
    calls = 0

    def crashing(function):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == moment:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return call

    for module, name in ((checkpoint, "write_tensors"), (checkpoint, "sha256"), (atomic, "fsync")):
        monkeypatch.setattr(module, name, crashing(getattr(module, name)))
    monkeypatch.setattr(Path, "rename", crashing(Path.rename))
    crashed = False
    try:
        save(tmp_path, 20)
    except KeyboardInterrupt:
        crashed = True
    monkeypatch.undo()
    assert crashed == (moment <= 8)
    for folder in list_checkpoints(tmp_path):
        checkpoint.verify_checkpoint(folder)
    set_aside_later_checkpoints(tmp_path, 10)
    save(tmp_path, 20)  # what the crash left behind is not in the way
    assert [f.name for f in (tmp_path / "checkpoints").iterdir() if f.name.startswith(".")] == []


def test_a_full_disk_is_one_line_and_harms_no_other_checkpoint(tmp_path, monkeypatch):
    good = save(tmp_path, 10)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    with pytest.raises(UserError, match=r"cannot write the checkpoint .*step-00000020.*No space left"):
        save(tmp_path, 20)
    assert find_checkpoint(tmp_path) == good
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000010"]


def test_weights_of_another_model_are_refused(tmp_path):
    folder = save(tmp_path, 10)
    wider, _ = new(config=ModelConfig(dim=8, n_layers=1, n_heads=2, ffn_dim=16, max_seq_len=8))
    with pytest.raises(
        UserError, match=r"of another model: model.layers.0.mlp.gate_proj.weight is \(12, 8\), not \(16, 8\)"
    ):
        load_weights(folder, wider)
    deeper, _ = new(config=ModelConfig(dim=8, n_layers=2, n_heads=2, ffn_dim=12, max_seq_len=8))
    with pytest.raises(UserError, match=r"model.layers.1.input_layernorm.weight is missing"):
        load_weights(folder, deeper)


def test_format_1_which_had_the_order_of_memory_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 1)
    model, _ = new(7)
    folder = save_checkpoint(tmp_path, {"model": model.params.state_dict()}, {"step": 7})
    monkeypatch.undo()
    again, _ = new()
    assert load_weights(folder, again)["format"] == 1
    assert np.array_equal(again.params.data, model.params.data)


def test_other_files_are_guarded_too(tmp_path):
    folder = save_checkpoint(tmp_path, parts(3), {"step": 3}, {"config.json": "{}"})
    assert (folder / "config.json").read_text() == "{}"
    (folder / "config.json").write_text("{ }")
    with pytest.raises(DamagedCheckpointError, match=r"config\.json is truncated or altered"):
        find_checkpoint(tmp_path)


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 3)
    save(tmp_path, 10)
    monkeypatch.undo()
    with pytest.raises(DamagedCheckpointError, match="format 3, this version reads 1 and 2"):
        find_checkpoint(tmp_path)
