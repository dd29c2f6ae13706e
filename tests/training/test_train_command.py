"""The train command in one process: what it writes, what it shows, what it refuses."""

import importlib
import json
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from dist_llm import generate
from dist_llm.parallel.comm import SerialComm
from dist_llm.training.metrics import read_metrics


def test_a_run_leaves_what_it_promises(train, tmp_path):
    pytest.importorskip("matplotlib")
    status, out, err = train("run", "--train.max_steps=20", "--train.checkpoint_interval=5")
    assert (status, err) == (0, "")
    run = tmp_path / "run"
    names = {"config.toml", "tokenizer.json", "tokenizer_config.json", "metrics.jsonl"}
    names |= {"samples", "loss.png", "checkpoints", "end.json"}
    assert {p.name for p in run.iterdir() if not p.name.startswith(".")} == names
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert tomllib.loads((run / "config.toml").read_text())["model"]["vocab_size"] == 257
    records = read_metrics(run)
    assert [r["step"] for r in records] == list(range(1, 21))
    assert records[-1]["tokens"] == 20 * 7 * 16
    for key in ("loss", "lr", "grad_norm", "tokens_per_s"):
        assert all(r[key] > 0 for r in records), key
    assert all(len(r["rss_bytes"]) == 1 and r["rss_bytes"][0] > 1e7 for r in records)
    assert [r["step"] for r in records if "val_loss" in r] == [10, 20]
    assert records[19]["val_loss"] < records[9]["val_loss"] < 5.6
    assert [p.name for p in sorted((run / "checkpoints").iterdir())] == ["step-00000015", "step-00000020"]
    assert "step 20/20" in out
    assert "validation loss" in out
    assert "\r" not in out  # plain lines, since this is no terminal
    assert [p.name for p in sorted((run / "samples").iterdir())] == ["step-00000010.txt", "step-00000020.txt"]


def test_the_printed_command_works_as_printed_without_an_activated_environment(run, train_arguments, tmp_path):
    result = run(0, *train_arguments("run", "--train.max_steps=1"), VIRTUAL_ENV="")
    command = result.stdout.splitlines()[-1].strip()
    assert command.endswith("/python -m dist_llm.generate run --prompt 'The '")
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    subprocess.run(command, shell=True, check=True, env=environment, cwd=tmp_path, capture_output=True)


def test_the_printed_prompt_is_one_that_a_tokenizer_of_chinese_characters_knows(train, tmp_path, capfd):
    (tmp_path / "text.txt").write_text("天地玄黄,宇宙洪荒。日月盈昃,辰宿列张。\n" * 40)
    more = ["--data.path=text.txt", "--data.tokenizer=char", "--train.max_steps=1"]
    status, out, err = train("run", *more)
    assert (status, err) == (0, "")
    words = shlex.split(out.splitlines()[-1])
    assert words[-2] == "--prompt"
    assert set(words[-1]) <= set((tmp_path / "text.txt").read_text())
    assert generate.main([*words[words.index("run") :], "--max-tokens=5"], SerialComm()) == 0
    assert capfd.readouterr().out.startswith(words[-1])


def test_the_report_names_what_was_chosen(train):
    _, out, _ = train("run", "--train.max_steps=1")
    for words in ("parameters", "byte tokens", "1 on 1 host", "1 BLAS thread, ", "MPI: none", "MB", "run      run"):
        assert words in out, words


def test_the_same_seed_is_the_same_run_and_another_is_not(train, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert train(name, "--train.max_steps=3", f"--train.seed={seed}")[0] == 0
    a, b, c = ((tmp_path / n / "checkpoints/step-00000003/model.safetensors").read_bytes() for n in "abc")
    assert a == b != c


def test_micro_batches_do_not_change_the_result(train, tmp_path):
    for size in (1, 7):
        assert train(f"m{size}", "--train.max_steps=5", f"--train.micro_batch_size={size}")[0] == 0
    one, all_at_once = (load_file(tmp_path / f"m{s}/checkpoints/step-00000005/model.safetensors") for s in (1, 7))
    for name, value in all_at_once.items():
        assert abs(one[name] - value).max() < 1e-5, name


def test_micro_batches_are_chosen_where_none_are_set_and_again_when_the_run_goes_on(train, tmp_path):
    status, out, _ = train("chosen", "--train.max_steps=3", "--train.micro_batch_size=none")
    assert status == 0
    assert "7 at a time, chosen for the model" in out  # all of the batch, whose sequences have 16 tokens
    status, out, err = train(None, "--resume", "chosen", "--train.max_steps=5")
    assert status == 0, err
    assert "7 at a time, chosen for the model" in out
    assert train("set", "--train.max_steps=3", "--train.micro_batch_size=32")[0] == 0
    status, out, _ = train(None, "--resume", "set", "--train.max_steps=5")
    assert "7 at a time\n" in out
    chosen, as_set = (tmp_path / f"{run}/checkpoints/step-00000005/model.safetensors" for run in ("chosen", "set"))
    assert chosen.read_bytes() == as_set.read_bytes()


def test_runs_without_a_name_are_numbered(train, train_arguments, tmp_path):
    more = [a for a in train_arguments("x", "--train.max_steps=1")[2:] if "run_dir" not in a]
    for _ in range(2):
        assert train(None, *more)[0] == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["run-001", "run-002"]


def test_nothing_is_written_over(train, tmp_path):
    assert train("run", "--train.max_steps=1")[0] == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
    status, _, err = train("run", "--train.max_steps=2")
    assert status == 2
    assert err == "error: run already holds a run: --resume run continues it, another --train.run_dir starts anew\n"
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.tex").write_text("my life's work")
    assert train("notes", "--train.max_steps=2")[2] == (
        "error: notes exists and is not an empty folder: choose another --train.run_dir\n"
    )
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")} == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--train.max_step=5"], "unknown option --train.max_step=5; did you mean --train.max_steps?"),
        (["--frobnicate"], "unknown option --frobnicate; --help lists the options"),
        (["stray"], "unknown option stray; --help lists the options"),
        (["--train.max_steps=many"], "train.max_steps takes a whole number, not 'many'"),
        (["--train.max_steps"], "argument --train.max_steps: expected one argument (--help lists the options)"),
        (["--model.n_heads=3"], "model.dim=16 must be n_heads=3 times an even head size (e.g. 18)"),
        (["--config", "nowhere.toml"], "cannot read the configuration nowhere.toml: No such file or directory"),
        (["--data.path=nowhere.txt"], "nowhere.txt"),
        (["--data.path=empty.txt"], "empty.txt"),
        (["--data.path=short.txt"], "the training text has"),
        (
            ["--data.tokenizer=word"],
            "data.tokenizer is one of byte, char, bpe or a path, such as ./tokenizer.json, not 'word'",
        ),
        (["--model.vocab_size=100"], "model.vocab_size=100 is less than the tokenizer's 257"),
        (["--train.run_dir=/dev/null/run"], "/dev/null/run"),
        (["--data.path="], "data.path is empty"),
        (["--model.n_layers=100000000"], "GB: choose a smaller [model]"),
        ([f"--train.run_dir={300 * 'x'}"], "File name too long"),
        (["--optim.grad_clip=inf"], "optim.grad_clip must be a finite number, not inf"),
        (["--log.sample_prompt=a\udcff"], "log.sample_prompt is not valid UTF-8"),
        (["--resume", "nowhere"], "there is no run folder nowhere"),
        (["--resume", "."], ". holds no checkpoint"),
    ],
)
def test_bad_input_is_one_clear_line_and_status_2(train, tmp_path, more, message):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "short.txt").write_text("too short")
    status, _, err = train("run", *more)
    assert status == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_help_lists_every_field_with_its_default(train):
    status, out, err = train(None, "--help")
    assert (status, err) == (0, "")
    out = " ".join(out.split())
    assert "--model.dim INT width of the residual stream (default: 192)" in out
    assert "--data.tokenizer byte|char|bpe" in out
    assert "--optim.lr FLOAT peak learning rate (default: 0.002)" in out


def test_it_works_where_mpi4py_cannot_be_imported(run, train_arguments, tmp_path):
    (tmp_path / "mpi4py.py").write_text("raise ImportError('there is no MPI here')\n")
    path = f"{tmp_path}:{Path(__file__).parent.parent.parent}"
    result = run(0, *train_arguments("run", "--train.max_steps=2"), PYTHONPATH=path)
    assert result.returncode == 0, result.stderr
    assert subprocess.run(
        [sys.executable, "-c", "import mpi4py"], env={"PYTHONPATH": path}, capture_output=True, check=False
    ).returncode


def test_no_picture_without_matplotlib(train, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert train("run", "--train.max_steps=2")[0] == 0
    assert not (tmp_path / "run" / "loss.png").exists()


def test_a_disk_that_fills_up_is_one_line(train, tmp_path, monkeypatch):
    checkpoint = importlib.import_module("dist_llm.training.checkpoint")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    status, _, err = train("run", "--train.max_steps=2")
    assert status == 2
    assert err.count("\n") == 1
    assert "cannot write the checkpoint run/checkpoints/step-00000002: " in err


@pytest.mark.mpirun
def test_deterministic_is_the_same_in_every_bit_on_many_ranks(run, train_arguments, tmp_path):
    """Up to four, tests/training/test_ranks.py says so; of eight ranks, three have nothing to do."""
    more = ["--train.max_steps=10", "--train.batch_size=9", "--model.dropout=0.1", "--parallel.strategy=deterministic"]
    for ranks in (0, 5, 8):
        result = run(ranks, *train_arguments(f"ranks-{ranks}", *more))
        assert result.returncode == 0, result.stderr
        for file in ("model.safetensors", "optimizer.safetensors"):
            got, expected = (tmp_path / f"ranks-{n}/checkpoints/step-00000010/{file}" for n in (ranks, 0))
            assert got.read_bytes() == expected.read_bytes(), (ranks, file)


@pytest.mark.mpirun
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--parallel.strategy=ring"], "parallel.strategy is one of blocking, overlapped, deterministic, "),
        (["--parallel.strategy=sharded", "--parallel.reduce_dtype=float16"], "parallel.reduce_dtype=float16 goes with"),
        (
            ["--parallel.reduction=local"],
            "unknown option --parallel.reduction=local; did you mean --parallel.strategy?",
        ),
    ],
)
def test_mistakes_on_ranks_are_one_line(run, train_arguments, options, message):
    result = run(2, *train_arguments("run", *options))
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("error:") == 1


def test_prepare_then_train_on_the_shards(train, text_file, tmp_path, capfd):
    from dist_llm.prepare import main as prepare_main

    arguments = [f"--data.path={text_file}", "--data.tokenizer=byte", f"--data.shards={tmp_path / 'shards'}"]
    assert prepare_main(arguments, SerialComm()) == 0
    out = capfd.readouterr().out
    assert f"--data.shards={tmp_path / 'shards'}" in out
    assert json.loads(out[: out.rindex("}") + 1])["tokens"]["train"] > 3000
    status, out, _ = train("run", "--train.max_steps=2", f"--data.shards={tmp_path / 'shards'}")
    assert status == 0
    assert "preparing" not in out
