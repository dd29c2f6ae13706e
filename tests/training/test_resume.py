"""A resumed run is the same run, and nothing else is taken for one."""

import shutil
from pathlib import Path

import pytest

from dist_llm.training.metrics import read_metrics
from dist_llm.training.run_dir import locked


@pytest.mark.parametrize(("optimizer", "average"), [("adamw", 0), ("muon", 0.9)])
def test_10_and_10_steps_are_20_bit_for_bit(train, tmp_path, optimizer, average):
    """Both ways of breaking a run: an early end with the same schedule, and a warm-up still under way."""
    optim = [f"--optim.optimizer={optimizer}", f"--optim.average={average}"]
    for schedule in (["--optim.schedule=constant"], ["--optim.warmup_steps=15"]):
        options = [
            *schedule,
            *optim,
            "--model.dropout=0.2",
            "--train.checkpoint_interval=10",
            "--train.keep_checkpoints=9",
        ]
        name = schedule[0][-4:]
        assert train(f"whole{name}", "--train.max_steps=20", *options)[0] == 0
        assert train(f"broken{name}", "--train.max_steps=10", *options)[0] == 0
        status, out, err = train(None, "--resume", f"broken{name}", "--train.max_steps=20")
        assert status == 0, err
        assert "continued after step 10" in out
        broken, whole = (tmp_path / f"{r}{name}/checkpoints/step-00000020" for r in ("broken", "whole"))
        files = ["model.safetensors", "optimizer.safetensors"] + (["trained_weights.safetensors"] if average else [])
        assert sorted(file.name for file in whole.glob("*.safetensors")) == files
        for file in files:
            assert (broken / file).read_bytes() == (whole / file).read_bytes(), (schedule, file)
        records = read_metrics(tmp_path / f"broken{name}")
        assert [r["step"] for r in records] == list(range(1, 21))
        assert [r["loss"] for r in records] == [r["loss"] for r in read_metrics(tmp_path / f"whole{name}")]


def test_a_run_of_a_version_that_had_adamw_alone_goes_on_with_it(train, tmp_path):
    adamw = ["--optim.optimizer=adamw", "--optim.average=0", "--train.checkpoint_interval=5"]
    assert train("whole", *adamw, "--train.max_steps=10")[0] == 0
    assert train("older", *adamw, "--train.max_steps=10")[0] == 0
    config = tmp_path / "older/config.toml"
    lines = config.read_text().splitlines(keepends=True)[1:]
    config.write_text("".join(x for x in lines if not x.startswith(("optimizer", "muon", "average"))))
    status, _, err = train(None, "--resume", "older/checkpoints/step-00000005")
    assert status == 0, err
    for file in ("model.safetensors", "optimizer.safetensors"):
        older, whole = (tmp_path / f"{r}/checkpoints/step-00000010/{file}" for r in ("older", "whole"))
        assert older.read_bytes() == whole.read_bytes()


def test_resuming_from_an_older_checkpoint_repeats_history_exactly(train, tmp_path):
    options = ["--train.max_steps=20", "--train.checkpoint_interval=10", "--train.keep_checkpoints=9"]
    assert train("run", *options)[0] == 0
    run = tmp_path / "run"
    weights = (run / "checkpoints/step-00000020/model.safetensors").read_bytes()
    metrics = [(r["step"], r["loss"], r.get("val_loss")) for r in read_metrics(run)]
    status, _, err = train(None, "--resume", "run/checkpoints/step-00000010")
    assert status == 0, err
    assert (run / "checkpoints/step-00000020/model.safetensors").read_bytes() == weights
    assert [(r["step"], r["loss"], r.get("val_loss")) for r in read_metrics(run)] == metrics


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--model.dim=32", "model.dim is 16 and cannot become 32"),
        ("--train.seed=2", "train.seed is 1 and cannot become 2"),
        ("--train.batch_size=3", "train.batch_size is 7 and cannot become 3"),
        ("--train.run_dir=x", "/run and cannot become /"),
        ("--data.tokenizer=char", "was made with another tokenizer than run\n"),
    ],
)
def test_a_resumed_run_stays_the_same_run(train, option, message):
    assert train("run", "--train.max_steps=2")[0] == 0
    status, _, err = train(None, "--resume", "run", "--train.max_steps=4", option)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


def test_a_resumed_run_may_be_told_again_what_it_is(train, text_file):
    assert train("run", "--train.max_steps=2")[0] == 0
    assert train("run", "--resume", "run", "--train.max_steps=3")[0] == 0


def test_a_text_may_move(train, text_file, tmp_path):
    assert train("run", "--train.max_steps=2")[0] == 0
    moved = tmp_path / "moved.txt"
    moved.write_bytes(text_file.read_bytes())
    assert train(None, "--resume", "run", "--train.max_steps=3", f"--data.path={moved}")[0] == 0


def test_a_run_may_be_resumed_from_another_folder(train, tmp_path, monkeypatch, text_file):
    (tmp_path / "input.txt").write_bytes(text_file.read_bytes())
    assert train("run", "--train.max_steps=2", "--data.path=input.txt")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert train(None, "--resume", "../run", "--train.max_steps=3")[0] == 0


def test_two_processes_cannot_train_the_same_run(train):
    assert train("run", "--train.max_steps=2")[0] == 0
    with locked(Path("run")):
        status, _, err = train(None, "--resume", "run", "--train.max_steps=4")
        assert status == 2
        assert err == "error: another process is training the run run: wait for its end, or end it\n"
    assert train(None, "--resume", "run", "--train.max_steps=4")[0] == 0


def test_a_finished_run_says_how_to_go_on(train):
    assert train("run", "--train.max_steps=2")[0] == 0
    status, _, err = train(None, "--resume", "run")
    assert status == 2
    assert "is after step 2, and train.max_steps=2: the run is finished; --train.max_steps=4 would go on" in err


def test_a_run_needs_its_text_no_more(train, text_file, tmp_path):
    copy = tmp_path / "copy.txt"
    copy.write_text(text_file.read_text())
    assert train("run", "--train.max_steps=2", f"--data.path={copy}")[0] == 0
    copy.unlink()
    assert train(None, "--resume", "run", "--train.max_steps=4")[0] == 0
    shutil.rmtree(tmp_path / "cache")
    status, _, err = train(None, "--resume", "run", "--train.max_steps=6")
    assert status == 2
    assert "copy.txt" in err


@pytest.mark.parametrize("how", ["the shards are gone", "it is named again"])
def test_a_text_that_has_changed_is_noticed(train, text_file, tmp_path, how):
    copy = tmp_path / "copy.txt"
    copy.write_text(text_file.read_text())
    assert train("run", "--train.max_steps=2", f"--data.path={copy}")[0] == 0
    copy.write_text(text_file.read_text().replace("king", "queen"))
    again = [f"--data.path={copy}"] if how == "it is named again" else []
    if not again:
        shutil.rmtree(tmp_path / "cache")
    status, _, err = train(None, "--resume", "run", "--train.max_steps=4", *again)
    assert status == 2
    assert "the text has changed since run/checkpoints/step-00000002" in err


def test_a_damaged_checkpoint_is_refused_and_the_good_one_works(train, tmp_path):
    options = ["--train.max_steps=4", "--train.checkpoint_interval=2"]
    assert train("run", *options)[0] == 0
    model = tmp_path / "run/checkpoints/step-00000004/model.safetensors"
    model.write_bytes(model.read_bytes()[:-100])
    status, _, err = train(None, "--resume", "run")
    assert status == 2
    good = "run/checkpoints/step-00000002"
    assert f"step-00000004 is damaged: model.safetensors is truncated or altered; the last good one is {good}" in err
    assert train(None, "--resume", good)[0] == 0
