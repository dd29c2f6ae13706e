"""Event files for TensorBoard, read back by a reader of the format itself."""

import importlib
import struct
import sys
from pathlib import Path

import pytest

from dist_llm.training import event_files
from dist_llm.training.metrics import read_metrics


def records(path: Path) -> list[bytes]:
    """The serialized events of a file: length, checksum, content, checksum, and so on."""
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack_from("<Q", content)
        found.append(content[12 : 12 + length])
        content = content[16 + length :]
    return found


@pytest.mark.parametrize("package", event_files.PACKAGES)
def test_the_numbers_of_the_metrics_are_in_them(train, tmp_path, monkeypatch, package):
    pytest.importorskip(package)
    other = {name: modules for name, modules in event_files.PACKAGES.items() if name == package}
    monkeypatch.setattr(event_files, "PACKAGES", other)
    options = ["--log.tensorboard=true", "--train.eval_interval=2"]
    assert train("run", "--train.max_steps=4", *options)[0] == 0
    assert train(None, "--resume", "run/checkpoints/step-00000004", "--train.max_steps=6")[0] == 0
    messages = importlib.import_module(f"{event_files.PACKAGES[package][1]}.event_pb2")
    shown, starts = {}, []
    files = sorted((tmp_path / "run").glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns)
    for file in files:
        for record in records(file):
            event = messages.Event.FromString(record)
            starts += [event.step] if event.HasField("session_log") else []
            for value in event.summary.value:
                shown[value.tag, event.step] = value.simple_value
    assert starts == [1, 5]
    metrics = read_metrics(tmp_path / "run")
    for record in metrics:
        for name in ("loss", "lr", "grad_norm", "tokens_per_s", "val_loss"):
            if name in record:
                assert shown[name, record["step"]] == pytest.approx(record[name], rel=1e-4), (name, record["step"])
    assert ("val_loss", 6) in shown
    assert ("val_loss", 5) not in shown


def test_without_a_package_it_is_one_line_before_the_run_begins(train, tmp_path, monkeypatch):
    for name in ("tensorboardX", "tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in list(sys.modules):
        if name.startswith(("tensorboardX.", "tensorboard.")):
            monkeypatch.delitem(sys.modules, name)
    status, _, err = train("run", "--train.max_steps=2", "--log.tensorboard=true")
    assert status == 2
    assert err == (
        "error: log.tensorboard=true needs tensorboardX or tensorboard, and neither is installed: "
        "python -m pip install tensorboardX, or leave it out\n"
    )
    assert not (tmp_path / "run").exists()
