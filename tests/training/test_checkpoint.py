import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dist_llm import atomic
from dist_llm.config import ModelConfig, OptimConfig
from dist_llm.errors import UserError
from dist_llm.model.llama import Llama
from dist_llm.optim.adamw import AdamW
from dist_llm.training import checkpoint
from dist_llm.training.checkpoint import (
    DamagedCheckpointError,
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from dist_llm.training.pruning import prune_checkpoints, set_aside_later_checkpoints
from dist_llm.training.run_dir import run_dir_of

CONFIG = ModelConfig(dim=8, n_layers=1, n_heads=2, ffn_dim=12, max_seq_len=8)


def new(seed: int | None = None, config: ModelConfig = CONFIG) -> tuple[Llama, AdamW]:
    model = Llama(config, 11)
    optimizer = AdamW(model.params, OptimConfig())
    if seed is not None:
        rng = np.random.default_rng(seed)
        for array in (model.params.data, optimizer.m, optimizer.v):
            array[...] = rng.standard_normal(array.size)
    return model, optimizer


def save(run: Path, step: int, val_loss: float | None = None) -> Path:
    return save_checkpoint(run, parts(step), {"step": step, "val_loss": val_loss})


def parts(seed: int) -> dict[str, dict[str, np.ndarray]]:
    model, optimizer = new(seed)
    optimizer.steps = seed
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "strategy": {}}


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


def test_a_checkpoint_moves_with_its_run(tmp_path):
    save(tmp_path / "run", 10)
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    assert find_checkpoint(tmp_path / "elsewhere").parent.parent.name == "elsewhere"
