"""Fine-tuning on pairs: the same training with any number of ranks and any strategy, and a model that has learned."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dist_llm import evaluate, generate, load
from dist_llm.errors import UserError
from dist_llm.parallel.comm import SerialComm
from dist_llm.training import broadcast_tokens
from dist_llm.training.metrics import read_metrics

CAPITALS = ["Rome", "Paris", "Bern", "Oslo", "Wien", "Riga"]
STEPS = 12


@pytest.fixture
def pairs(tmp_path) -> str:
    """The settings of a text of pairs, whose prompts are long and whose completions are short."""
    lines = [
        json.dumps({"prompt": f"{'please ' * (i % 3)}say {word}: ", "completion": word * (1 + i % 2)})
        for i in range(12)
        for word in CAPITALS
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    return f"--data.path={tmp_path / 'pairs.jsonl'}"


def folder(run: Path, step: int = STEPS) -> Path:
    return run / f"checkpoints/step-{step:08d}"


def test_a_model_learns_to_complete(train, tmp_path, pairs, capfd):
    more = [pairs, "--data.completions=true", "--optim.lr=0.02", "--model.dim=32", "--model.max_seq_len=32"]
    status, out, err = train("run", "--train.max_steps=150", "--train.eval_interval=50", *more)
    assert (status, err) == (0, "")
    last = read_metrics(tmp_path / "run")[-1]
    assert last["val_loss"] < 1.0
    prompt = out.splitlines()[-1].partition("--prompt ")[2].strip("'")
    assert prompt.endswith(": ")
    assert prompt in (tmp_path / "pairs.jsonl").read_text()
    assert generate.main(["run", f"--prompt={prompt}", "--temperature=0", "--max-tokens=40"], SerialComm()) == 0
    assert len(capfd.readouterr().out) < len(prompt) + 20  # it has learned to end
    assert evaluate.main(["run", "--checkpoint=last", "--threads=1"], SerialComm()) == 0
    assert json.loads(capfd.readouterr().out)["loss"] == last["val_loss"]
    # Prompts were never learned: without one, a model knows little of how they go on.
    assert load(tmp_path / "run").score("please please say").loss > 3


def test_a_run_on_completions_goes_on(train, tmp_path, pairs):
    more = [pairs, "--data.completions=true", "--optim.schedule=constant"]
    assert train("whole", *more, f"--train.max_steps={STEPS}")[0] == 0
    assert train("broken", *more, "--train.max_steps=5")[0] == 0
    assert train(None, "--resume", "broken", f"--train.max_steps={STEPS}")[0] == 0
    a, b = (folder(tmp_path / run) / "model.safetensors" for run in ("whole", "broken"))
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data.path=none"], "data.completions=true needs JSON Lines of your own: name them with --data.path=FILE"),
        (["--data.tokenizer=char"], "the char tokenizer has no end-of-text token"),
    ],
)
def test_what_does_not_fit_is_one_line(train, pairs, options, message):
    status, _, err = train("run", pairs, "--data.completions=true", *options)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.fixture
def on_ranks(world, train_on, mpi_tmp_path, pairs):
    """``on_ranks(n, "run", ...)``: as `train_on`, with pairs that all ranks see."""
    path = mpi_tmp_path / "pairs.jsonl"
    if world.rank == 0:
        path.write_text(Path(pairs.partition("=")[2]).read_text())
    world.allgather(None)
    # In a batch of 9 short sequences, ranks have different numbers of targets that count, and micro-batches some none.
    more = [f"--data.path={path}", "--data.completions=true", "--model.max_seq_len=5", "--train.batch_size=9"]
    more += [f"--train.max_steps={STEPS}", "--optim.schedule=constant"]
    return lambda n, run_dir, *rest: train_on(n, run_dir, *more, *rest)


@pytest.mark.mpi
@pytest.mark.parametrize("strategy", ["blocking", "overlapped", "sharded", "deterministic"])
def test_every_tensor_agrees_with_the_single_process(world, on_ranks, strategy):
    options = [f"--parallel.strategy={strategy}", "--optim.optimizer=adamw", "--parallel.bucket_bytes=3000"]
    alone, ranks = (on_ranks(n, f"ranks-{n}", *options) for n in (0, world.size))
    expected, got = (load_file(folder(run) / "model.safetensors") for run in (alone, ranks))
    for name, value in expected.items():
        if strategy == "deterministic":
            assert np.array_equal(got[name], value), name
        assert np.linalg.norm(got[name] - value) < 1e-5 * np.linalg.norm(value), name
    for record, reference in zip(read_metrics(ranks), read_metrics(alone), strict=True):
        for key in {"loss", "grad_norm", "val_loss", "val_bits_per_byte"} & reference.keys():
            assert record[key] == pytest.approx(reference[key], rel=1e-4), (record["step"], key)


@pytest.mark.mpi
def test_local_steps_of_a_single_rank_are_ordinary_steps(on_ranks):
    # Muon would enlarge the rounding of the outer step.
    plain = on_ranks(0, "plain", "--optim.optimizer=adamw")
    options = ["--parallel.strategy=local", "--parallel.local_steps=3", "--parallel.outer_momentum=0"]
    local = on_ranks(1, "local", "--optim.optimizer=adamw", *options, "--parallel.outer_lr=1")
    expected, got = (load_file(folder(run) / "model.safetensors") for run in (plain, local))
    for name, value in expected.items():
        assert np.linalg.norm(got[name] - value) < 1e-5 * np.linalg.norm(value), name


@pytest.mark.mpi
def test_hosts_without_the_pairs_are_sent_them_and_their_marks(comm_of, world, on_ranks, monkeypatch):
    comm_of(2)
    near = on_ranks(world.size, "near")
    if world.rank > 0:

        def nothing_here(folder: Path, verify: bool) -> None:
            raise UserError(f"{folder} is missing")

        monkeypatch.setattr(broadcast_tokens, "open_data", nothing_here)
    far = on_ranks(world.size, "far")
    a, b = (folder(run) / "model.safetensors" for run in (near, far))
    assert a.read_bytes() == b.read_bytes()
