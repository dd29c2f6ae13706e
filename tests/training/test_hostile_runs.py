"""Runs and checkpoints that were made to hurt, or are damaged where no checksum of a checkpoint reaches."""

import contextlib
import json
import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dist_llm.config import Config
from dist_llm.errors import UserError
from dist_llm.settings import to_toml
from dist_llm.training.checkpoint import find_checkpoint, list_checkpoints
from dist_llm.training.load_run import load, shape_of
from dist_llm.training.metrics import MetricsLog, read_metrics
from dist_llm.training.run_dir import check_run_dir_is_free, config_of, locked, write_config
from tests.fuzz.kinds import make_run, sign_checkpoint, sign_config


@pytest.fixture
def a_run(tmp_path):
    return make_run(tmp_path / "run", "bpe")


@pytest.fixture
def checkpoint(a_run):
    return a_run / "checkpoints/step-00000002"


@pytest.fixture
def refused(a_run, checkpoint):
    """``refused(what)``: neither generate nor resume nor init-from reads the run, and both say what is wrong."""

    def refused(what: str) -> None:
        for read in (lambda: load(a_run), lambda: shape_of(a_run)):
            with pytest.raises(UserError) as caught:
                read()
            assert what in str(caught.value)

    return refused


def test_the_run_is_good(a_run, checkpoint):
    lm = load(a_run)
    assert (lm.config.train.batch_size, lm.config.optim.lr) == (7, 0.002)
    assert config_of(checkpoint) == lm.config


def test_a_truncated_configuration_is_told_wherever_it_ends(a_run, checkpoint):
    content = (a_run / "config.toml").read_bytes()
    for length in range(len(content)):
        (a_run / "config.toml").write_bytes(content[:length])
        with pytest.raises(UserError, match=r"config\.toml"):
            config_of(checkpoint)


def test_a_changed_digit_of_the_configuration_is_told(a_run, refused):
    path = a_run / "config.toml"
    path.write_text(path.read_text().replace("lr = 0.002", "lr = 0.003"))
    refused("config.toml is not as it was written, but truncated or edited")


@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        ("batch_size = 7", "batch_size = 9", "train.batch_size=9, and"),
        ("seed = 3", "seed = 4", "train.seed=4, and"),
        ("n_heads = 2", "n_heads = 4", "model.n_heads=4, and"),
        ("rope_theta = 10000.0", "rope_theta = 1000.0", "model.rope_theta=1000.0, and"),
        ("max_seq_len = 16", "max_seq_len = 1000000000", "model.max_seq_len=1000000000, and"),
    ],
)
@pytest.mark.parametrize("older", [False, True])
def test_what_must_not_change_is_compared_with_the_checkpoint(a_run, refused, was, now, message, older):
    path = a_run / "config.toml"
    text = path.read_text()
    assert was in text
    path.write_text(text.replace(was, now))
    if older:
        path.write_text(path.read_text().partition("\n")[2])
    else:
        sign_config(a_run)
    refused(message)


def test_a_configuration_without_a_checksum_as_older_versions_wrote_it_is_read(a_run, checkpoint):
    path = a_run / "config.toml"
    expected = config_of(checkpoint)
    path.write_text(to_toml(expected))
    assert config_of(checkpoint) == expected
    path.write_text(to_toml(expected).partition("[optim]")[0])
    with pytest.raises(UserError, match="truncated or edited"):
        config_of(checkpoint)


def test_settings_that_a_resumed_run_changes_are_no_damage(a_run, checkpoint):
    config = config_of(checkpoint).replace({"optim": {"lr": 0.5}, "train": {"max_steps": 900}})
    write_config(a_run, config)
    assert config_of(checkpoint) == config


def test_a_changed_digit_of_the_tokenizer_is_told(a_run, refused):
    path = a_run / "tokenizer.json"
    document = json.loads(path.read_text())
    merges = document["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]
    path.write_text(json.dumps(document))
    refused("tokenizer.json is damaged, or not the one that")


def test_another_end_of_text_is_told(a_run, refused):
    path = a_run / "tokenizer_config.json"
    path.write_text(path.read_text().replace("<|endoftext|>", "<|endoftexu|>"))
    refused("tokenizer.json is damaged, or not the one that")


@pytest.mark.parametrize("name", ["config.toml", "tokenizer.json", "checkpoints/step-00000002/state.json",
                                  "checkpoints/step-00000002/model.safetensors"])  # fmt: skip
@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_what_is_no_file_is_told_at_once(a_run, refused, name, kind):
    path = a_run / name
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    refused(path.name)


def test_metrics_that_are_no_file_or_of_other_types(a_run):
    path = a_run / "metrics.jsonl"
    assert len(read_metrics(a_run)) == 8
    path.write_text('{"step": "1"}\n')
    with pytest.raises(UserError, match=r"other contents than a run writes \(line 1: step is not a number of steps\)"):
        MetricsLog(a_run, 2)
    path.write_text('{"step": 1}\n{"step": 2, "val_loss": "low"}\n')
    with pytest.raises(UserError, match=r"line 2: val_loss is not a number"):
        read_metrics(a_run)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="it is not a regular file"):
        read_metrics(a_run)


def test_a_damaged_line_of_the_metrics_is_left_out(a_run):
    path, written = a_run / "metrics.jsonl", read_metrics(a_run)
    content = path.read_bytes()
    assert [record["step"] for record in written] == list(range(1, 9))
    assert all(json.loads(line)["crc32"] for line in content.splitlines())
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        assert 6 <= len(found := read_metrics(a_run)) <= 8
        assert all(record in written for record in found)
    for i in range(len(content)):
        path.write_bytes(content[:i])
        assert all(record in written for record in read_metrics(a_run))


def test_metrics_of_older_versions_have_no_checksums(a_run):
    path, written = a_run / "metrics.jsonl", read_metrics(a_run)
    path.write_text("".join(json.dumps(record) + "\n" for record in written))
    assert read_metrics(a_run) == written
    log = MetricsLog(a_run, 5)
    log.write({"step": 6, "loss": 1.5})
    log.close()
    assert read_metrics(a_run) == [*written[:5], {"step": 6, "loss": 1.5}]
    assert path.read_bytes().count(b'"crc32"') == 6


def test_nothing_is_written_through_links(a_run, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in (".metrics.jsonl.tmp", ".config.toml.tmp", ".lock"):
        with contextlib.suppress(FileNotFoundError):
            (a_run / name).unlink()
        (a_run / name).symlink_to(precious)
    MetricsLog(a_run, 1).close()
    write_config(a_run, Config())
    with pytest.raises(UserError, match=r"cannot lock the run folder with .*\.lock"), locked(a_run):
        pass
    assert precious.read_text() == "precious"
    (a_run / ".lock").unlink()
    for folder in ("checkpoints", "samples"):
        if (a_run / folder).exists():
            shutil.rmtree(a_run / folder)
        (a_run / folder).symlink_to(tmp_path)
        with pytest.raises(UserError, match=f"{folder} is a link, and a run writes nothing outside"), locked(a_run):
            pass
        (a_run / folder).unlink()


def test_folders_that_only_look_like_checkpoints_are_not_looked_at(a_run, checkpoint):
    for name in ("step-²", "step-\uff15", "step-", "step-1x", "step-" + "9" * 200):
        (a_run / "checkpoints" / name).mkdir()
    (a_run / "checkpoints/step-00000009").write_text("a file")
    (a_run / "checkpoints/step-00000010").symlink_to(checkpoint)
    assert list_checkpoints(a_run) == [checkpoint]
    assert find_checkpoint(a_run) == checkpoint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", -1), ("step", "2"), ("step", True), ("step", 10**30), ("step", 2.5), ("val_loss", "low"),
        ("val_loss", []), ("tokens", None), ("seed", "x"), ("shards", 3), ("train_tokens", {}),
    ],
)  # fmt: skip
def test_values_of_other_types_are_told_under_a_checksum_computed_anew(checkpoint, refused, key, value):
    document = json.loads((checkpoint / "state.json").read_text())
    (checkpoint / "state.json").write_text(json.dumps(document | {key: value}))
    sign_checkpoint(checkpoint)
    refused(f"is damaged: state.json has a wrong value of {key}")


@pytest.mark.parametrize("name", ["../../../../etc/passwd", "/etc/passwd", "..", ""])
def test_a_checkpoint_names_no_files_elsewhere(checkpoint, refused, name):
    document = json.loads((checkpoint / "state.json").read_text())
    document["sha256"][name] = "0" * 64
    del document["sha256"]["state.json"]
    (checkpoint / "state.json").write_text(json.dumps(document))
    from dist_llm.training.checkpoint_state import digest_of

    document["sha256"]["state.json"] = digest_of(document)
    (checkpoint / "state.json").write_text(json.dumps(document))
    refused("is damaged: state.json has a wrong value of sha256")


@pytest.mark.parametrize("dtype", ["int8", "float16", "float64"])
def test_tensors_of_another_type_are_not_cast(checkpoint, refused, dtype):
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"model.norm.weight": tensors["model.norm.weight"].astype(dtype)}, path)
    sign_checkpoint(checkpoint)
    refused("model.safetensors: model.norm.weight is ")


def test_another_shape_than_the_files_hold_is_told_before_memory_is_taken(a_run, checkpoint, refused):
    path = a_run / "config.toml"
    path.write_text(path.read_text().replace("n_layers = 1 ", "n_layers = 1000000 "))
    sign_config(a_run)
    shape = json.loads((checkpoint / "config.json").read_text()) | {"num_hidden_layers": 1_000_000}
    (checkpoint / "config.json").write_text(json.dumps(shape))
    sign_checkpoint(checkpoint)
    refused("parameters, and the weights are ")


def test_as_many_numbers_in_fewer_tensors_are_no_model(a_run, checkpoint, refused):
    size = sum(array.size for array in load_file(checkpoint / "model.safetensors").values())
    save_file({"x": np.zeros(size, np.float32)}, checkpoint / "model.safetensors")
    sign_checkpoint(checkpoint)
    refused("config.toml describes 11 tensors, and the weights are 1")


def test_an_optimizers_state_of_other_shapes_is_told(a_run, checkpoint):
    from tests.fuzz.kinds import resumed_content

    path = checkpoint / "optimizer.safetensors"
    tensors = load_file(path)
    name = "m.model.layers.0.mlp.up_proj.weight"
    for changed, message in (
        (
            tensors | {name: np.ascontiguousarray(tensors[name].T)},
            rf"{name} is float32 \(8, 12\), not float32 \(12, 8\)",
        ),
        (tensors | {name: tensors[name].astype(np.float64)}, f"{name} is float64"),
        ({key: array for key, array in tensors.items() if key != name}, f"{name} is missing"),
        (tensors | {"steps": np.array([-3])}, "its steps are not a number of steps"),
        (tensors | {"steps": np.array([], np.int64)}, "its steps are not a number of steps"),
    ):
        save_file(changed, path)
        sign_checkpoint(checkpoint)
        with pytest.raises(UserError, match=message):
            resumed_content(a_run)


def test_a_fifo_in_place_of_the_metrics_does_not_hold_a_new_run_up(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(UserError, match="exists and is not an empty folder"):
        check_run_dir_is_free(str(tmp_path))
