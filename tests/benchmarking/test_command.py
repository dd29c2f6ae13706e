"""The command as a user starts it, on a model so small that only its ways are measured, not its speed."""

import importlib.util
import json
import signal
import time
from dataclasses import replace

import psutil
import pytest

from dist_llm.benchmark import configuration
from dist_llm.benchmarking.contestants import contestants
from dist_llm.config import Config
from dist_llm.settings import Settings
from tests.conftest import processes_of

TINY = ["--model.dim=16", "--model.n_layers=1", "--model.n_heads=2", "--model.ffn_dim=24", "--model.max_seq_len=8"]


def workers(folder) -> list[int]:
    return processes_of("dist_llm.benchmarking.worker", folder)


def take_steps(run, repeats: int, *options: str, **environment: str):
    """Run the benchmark with turns of one step of a tiny model, by two ranks where there are ranks."""
    result = run(
        0, "-m", "dist_llm.benchmark", *TINY, f"--repeats={repeats}", "--steps=1", "--batch-size=5", "--ranks=2",
        *options, **environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result


@pytest.mark.mpirun
def test_contestants_take_turns_and_are_gone_afterwards(run, tmp_path):
    result = take_steps(run, 2, "--only=sgemm,numpy-1x1,numpy-Nx1", "--out=results")
    assert workers(tmp_path) == []
    report = json.loads((tmp_path / "results" / "benchmark.json").read_text())
    assert report["model"]["dim"] == 16
    assert report["model"]["vocab_size"] == 512
    assert (report["batch_size"], report["repeats"], report["steps"]) == (5, 2, 1)
    assert len(report["sgemm_gflops"]["one_core"]["rounds"]) == 2
    assert [(c["name"], c["processes"], c["threads"]) for c in report["contestants"]] == [
        ("numpy-1x1", 1, 1), ("numpy-Nx1", 2, 1),
    ]  # fmt: skip
    for c in report["contestants"]:
        assert (c["task"], c["unit"]) == ("step", "tokens/s")
        assert len(c["speed"]["rounds"]) == 2
        assert len(c["peak_memory_bytes"]) == c["processes"]
        assert min(c["peak_memory_bytes"]) > 20e6
        assert c["mfu"]["median"] > 0
        assert min(c["phases"].values()) > 0
        assert sum(c["phases"].values()) == pytest.approx(1, abs=0.2)  # medians of parts need not add up exactly
    assert report["left_out"] == {}
    for text in ("round 2 of 2", "where the time goes", "numpy-Nx1: micro-batches of ", "FLOPs per token"):
        assert text in result.stdout
    has_matplotlib = importlib.util.find_spec("matplotlib") is not None
    assert (tmp_path / "results" / "benchmark.png").exists() == has_matplotlib


@pytest.mark.mpirun
def test_ctrl_c_ends_all_workers(start, tmp_path):
    job = start(
        0, "-u", "-m", "dist_llm.benchmark", *TINY, "--repeats=100000", "--ranks=2", "--only=numpy-1x1,numpy-Nx1"
    )
    for line in job.process.stdout:
        if line.startswith("round 3"):
            break
    assert len(workers(tmp_path)) >= 3  # and mpirun, whose command line names them too
    job.process.send_signal(signal.SIGINT)
    result = job.wait()
    assert (result.returncode, result.stderr) == (130, "interrupted\n")
    assert workers(tmp_path) == []


@pytest.mark.mpirun
def test_a_killed_worker_is_told_by_name(start, tmp_path):
    job = start(0, "-u", "-m", "dist_llm.benchmark", *TINY, "--repeats=100000", "--only=numpy-1x1")
    for line in job.process.stdout:
        if line.startswith("round 3"):
            break
    for pid in workers(tmp_path):
        psutil.Process(pid).kill()
    result = job.wait()
    assert result.returncode == 1
    assert result.stderr == "error: numpy-1x1 failed in its turn: its process ended without a word\n"


def test_a_worker_ends_when_the_benchmark_is_killed(start, tmp_path):
    job = start(0, "-u", "-m", "dist_llm.benchmark", *TINY, "--repeats=100000", "--only=numpy-1x1")
    for line in job.process.stdout:
        if line.startswith("round 3"):
            break
    job.process.kill()
    job.wait()
    deadline = time.monotonic() + 20
    while workers(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert workers(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only=sgem"], "--only: unknown contestant 'sgem'; did you mean sgemm?"),
        (["--llama2c=nowhere"], "--llama2c: there is no file nowhere"),
        (["--out=file", "--only=sgemm"], "--out: file is a file: name a folder"),
        (["--repeats=0"], "argument --repeats: takes a whole number from 1 on, not '0' (--help lists the options)"),
        (
            ["--only=numpy-Nx1", "--ranks=3", "--batch-size=2"],
            "numpy-Nx1 has 3 processes and --batch-size only 2: each needs a sequence",
        ),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, options, message):
    (tmp_path / "file").touch()
    result = run(0, "-m", "dist_llm.benchmark", *options)
    assert (result.returncode, result.stderr) == (2, f"error: {message}\n")


def test_list(run):
    result = run(0, "-m", "dist_llm.benchmark", "--list", "--ranks=3")
    assert result.returncode == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "step numpy-Nx1 dist_llm: ranks, one thread each (3 x 1)" in lines


@pytest.mark.mpirun
def test_baselines(run):
    pytest.importorskip("torch")
    result = take_steps(
        run, 1, "--only=torch-eager-1,torch-ddp-gloo,torch-bf16-ddp-gloo,generation-torch", PYTHONWARNINGS="default"
    )
    assert "left out" not in result.stdout
    assert "torch-bf16-ddp-gloo: " in result.stdout


@pytest.mark.mpirun
def test_compiled_layers(run, tmp_path):
    result = take_steps(run, 1, "--only=numpy-Nx1,bf16-Nx1", "--out=results")
    why_not = next(c for c in contestants(2, 2) if c.name == "bf16-Nx1").why_not(Config())
    assert ("left out: bf16-Nx1: " in result.stdout) == (why_not is not None)
    report = json.loads((tmp_path / "results" / "benchmark.json").read_text())
    names = ["numpy-Nx1", *["bf16-Nx1"] * (why_not is None)]
    assert [c["name"] for c in report["contestants"]] == names


@pytest.mark.parametrize(
    ("files", "dim", "vocab_size"),
    [
        ((), 192, 512),
        (("stories15M",), 288, 32_000),
        (("quickstart",), 160, 2048),
        (("stories15M", "quickstart"), 160, 32_000),
    ],
)
def test_of_a_configuration_only_the_model_counts(files, dim, vocab_size):
    config = configuration(Settings(files, {"model": {"n_layers": 2}}), batch_size=3)
    assert (config.model.dim, config.model.n_layers, config.vocab_size) == (dim, 2, vocab_size)
    assert config.train == replace(Config().train, batch_size=3)
    assert config.optim == replace(Config().optim, optimizer="adamw")


def test_generation_and_tokenizers(run):
    result = run(
        0, "-m", "dist_llm.benchmark", *TINY, "--model.vocab_size=300", "--repeats=1",
        "--only=generation-numpy,generation-compiled,bpe-training-numpy,bpe-encoding",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "generation-numpy: 7 tokens" in result.stdout
    assert ("generation-compiled: 7 tokens" in result.stdout) == (importlib.util.find_spec("numba") is not None)
    assert "bpe-training-numpy: 300 tokens, 1.0 MB of text" in result.stdout
    assert ("left out: bpe-encoding-hf" in result.stdout) == (importlib.util.find_spec("tokenizers") is None)


def test_baselines_without_dropout_only(run):
    result = run(0, "-m", "dist_llm.benchmark", *TINY, "--model.dropout=0.1", "--only=torch-eager-1")
    assert result.returncode == 1
    assert result.stderr.startswith("error: no contestant can take part: torch-eager-1: ")
