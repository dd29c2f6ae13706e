"""Runs side by side: the table, the picture, and what is broken in them."""

import json
import sys

import pytest

from dist_llm import runs
from dist_llm.errors import UserError
from dist_llm.parallel.comm import SerialComm
from dist_llm.training.metrics import read_metrics
from dist_llm.training.summary import differing_settings, find_runs, summarize, table


@pytest.fixture
def trained(train, tmp_path):
    """Two runs, and one that was stopped, in tmp_path/runs."""
    (tmp_path / "runs").mkdir()
    for name, more in {
        "run-001": ["--optim.lr=0.001", "--train.eval_interval=2"],
        "run-002": ["--optim.lr=0.002", "--model.dim=32", "--train.eval_interval=2"],
    }.items():
        assert train(f"runs/{name}", "--train.max_steps=4", *more)[0] == 0
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Room for every table in one piece."""
    monkeypatch.setenv("COLUMNS", "300")


def compared(capfd, *arguments: object) -> list[list[str]]:
    """The words of each line that the command prints."""
    capfd.readouterr()
    assert runs.main([str(a) for a in arguments], SerialComm()) == 0
    return [line.split() for line in capfd.readouterr().out.splitlines()]


def test_a_table_of_what_differs_and_of_what_was_reached(trained, capfd, tmp_path):
    title, head, first, second, _ = compared(capfd)
    assert title == ["2", "runs"]
    assert " ".join(head) == "run model.dim optim.lr parameters tokens best val loss tokens/s hours status"
    for line, name, dim, lr in ((first, "run-001", "16", "0.001"), (second, "run-002", "32", "0.002")):
        records = read_metrics(trained / name)
        best = min(r["val_loss"] for r in records if "val_loss" in r)
        assert line[:3] == [f"runs/{name}", dim, lr]
        assert line[4:6] == [str(4 * 7 * 16), f"{best:.4f}"]
        assert line[-1] == "finished"
    summary = summarize(trained / "run-001")
    records = read_metrics(trained / "run-001")
    assert summary.parameters == int(first[3].replace(",", ""))
    seconds = sum(112 / r["tokens_per_s"] + r.get("val_seconds", 0) for r in records)
    assert summary.hours == pytest.approx(seconds / 3600)
    assert sorted(r["tokens_per_s"] for r in records)[1] <= summary.tokens_per_s
    assert differing_settings([summary]) == []


def test_one_picture_of_their_curves(trained, capfd, tmp_path):
    pytest.importorskip("matplotlib")
    assert compared(capfd)[-1] == ["curves", "in", "runs.png"]
    assert (tmp_path / "runs.png").read_bytes().startswith(b"\x89PNG")
    assert compared(capfd, "runs/run-002", "--out", "other.png")[-1] == ["curves", "in", "other.png"]
    assert (tmp_path / "other.png").exists()
    with pytest.raises(UserError, match=r"cannot write nowhere/a.png .No such file or directory.: name another file"):
        compared(capfd, "--out=nowhere/a.png")


def test_without_matplotlib_there_is_a_table(trained, capfd, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert len(compared(capfd)) == 5
    assert not (tmp_path / "runs.png").exists()


def test_unfinished_runs_say_how_far_they_are(trained):
    config = trained / "run-001/config.toml"
    config.write_text(config.read_text().replace("max_steps = 4", "max_steps = 9"))
    assert summarize(trained / "run-001").status == "unfinished, step 4 of 9"
    metrics = trained / "run-001/metrics.jsonl"
    records = read_metrics(trained / "run-001")
    records[1]["val_loss"], records[3]["val_loss"] = 3.0, 4.0
    metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    config.write_text(config.read_text().replace("patience = 0", "patience = 1"))
    assert summarize(trained / "run-001").status == "stopped early at step 4"
    (trained / "run-001/metrics.jsonl").write_text("")
    assert summarize(trained / "run-001").status == "broken: no step was recorded"


@pytest.mark.parametrize(
    ("file", "content", "status"),
    [
        ("config.toml", None, "is not a run folder: it has no config.toml"),
        ("config.toml", b"[model\n", "is not valid TOML"),
        ("config.toml", b"\xff", "is not valid TOML"),
        ("config.toml", b"[model]\nlayers = 3\n", "unknown key model.layers"),
        ("metrics.jsonl", None, "no step was recorded"),
        ("metrics.jsonl", b"\x00\xff{", "no step was recorded"),
        ("metrics.jsonl", b'{"step": 1}', "its metrics.jsonl has other contents"),
        ("metrics.jsonl", b'{"step": 1, "tokens": 5, "loss": "low", "tokens_per_s": 3}', "has other contents"),
        ("metrics.jsonl", b'{"step": 1, "tokens": 5, "loss": 1, "tokens_per_s": 0}', "has other contents"),
        ("metrics.jsonl", b"[" * 100_000, "has other contents"),
        ("metrics.jsonl", b'{"step": [], "tokens": 5, "loss": 1, "tokens_per_s": 1}', "has other contents"),
    ],
)
def test_broken_runs_are_listed_as_such(trained, capfd, file, content, status):
    path = trained / "run-001" / file
    path.unlink() if content is None else path.write_bytes(content)
    lines = compared(capfd)
    assert lines[2][0] == "runs/run-001"
    assert status in " ".join(lines[2])
    assert "broken:" in lines[2]
    assert lines[3][-1] == "finished"


def test_what_is_no_run_is_not_taken_for_one(trained, capfd, tmp_path, monkeypatch):
    (trained / "scaling-001").mkdir()
    (trained / "run-003").mkdir()
    assert [path.name for path in find_runs(trained)] == ["run-001", "run-002", "run-003"]
    assert "broken:" in compared(capfd, "elsewhere")[2]
    monkeypatch.chdir(trained / "run-003")
    with pytest.raises(UserError, match=r"there are no runs in .*/run-003/runs: name run folders, or train one"):
        compared(capfd)


def test_settings_are_written_as_a_user_writes_them(trained):
    rows = table([summarize(trained / "run-001"), summarize(trained / "run-002"), summarize(trained / "none")])
    assert [len(row) for row in rows] == [len(rows[0])] * 4
    assert rows[3][:3] == [str(trained / "none"), "", ""]
