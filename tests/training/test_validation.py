"""Evaluations between the steps: on how many tokens, and what becomes of them when somebody asks for the end."""

import json
import signal
import time

import pytest

from dist_llm.inference.evaluation import spread
from dist_llm.training import validation
from dist_llm.training.checkpoint import find_checkpoint
from dist_llm.training.checkpoint_state import read_state
from dist_llm.training.metrics import read_metrics


@pytest.mark.parametrize(
    ("n_tokens", "expected"),
    [
        (0, range(10)),
        (100, range(10)),
        (90, range(9)),
        (50, [0, 2, 4, 6, 8]),
        (41, [0, 2, 4, 6, 8]),
        (1, [0]),
        (25, [0, 3, 6]),
    ],
)
def test_windows_are_spread_evenly(n_tokens, expected):
    windows = [(10 * i, 10) for i in range(9)] + [(90, 3)]
    assert [start // 10 for start, _ in spread(windows, n_tokens)] == list(expected)


def test_evaluations_are_of_eval_tokens_and_the_last_one_of_all(train, tmp_path, run):
    options = ["--train.max_steps=4", "--train.eval_interval=2", "--log.sample_tokens=0"]
    status, out, err = train("run", *options, "--train.eval_tokens=64")
    assert (status, err) == (0, "")
    assert "evals    of 64 tokens every 2 steps, about 9% of the time, and of all 377 at the end" in out
    two, four = (record for record in read_metrics(tmp_path / "run") if "val_loss" in record)
    assert "full_val_loss" not in two
    assert four["full_val_loss"] != four["val_loss"]
    assert out.count("loss on the whole validation text") == 1
    evaluated = run(0, "-m", "dist_llm.evaluate", "run", "--checkpoint", "last")
    assert json.loads(evaluated.stdout)["loss"] == pytest.approx(four["full_val_loss"], rel=1e-6)
    assert json.loads(evaluated.stdout)["n_tokens"] == 377
    # The checkpoint that is called the best is chosen by figures of the same tokens.
    assert read_state(find_checkpoint(tmp_path / "run"))["val_loss"] == four["val_loss"]
    train("whole", *options, "--train.eval_tokens=0")
    assert read_metrics(tmp_path / "whole")[-1]["val_loss"] == pytest.approx(four["full_val_loss"], rel=1e-6)


@pytest.mark.parametrize(("interval", "step"), [(2, 2), (9, 4)])
def test_a_stop_in_an_evaluation_leaves_a_checkpoint(train, tmp_path, monkeypatch, interval, step):
    """In one between the steps, and in the last one."""

    def done(self, n, total):
        self._stop.received = True

    monkeypatch.setattr(validation.Validation, "done", done)
    status, out, err = train("run", "--train.max_steps=4", f"--train.eval_interval={interval}")
    assert (status, err) == (0, "")
    assert "val_loss" not in read_metrics(tmp_path / "run")[-1]
    assert find_checkpoint(tmp_path / "run").name == f"step-{step:08d}"
    end = json.loads((tmp_path / "run/end.json").read_text())
    assert (end["how"], end["step"]) == ("stopped", step)
    if step < 4:
        assert "stopped after step 2 of 4, checkpoint written; continue with" in out
        monkeypatch.undo()
        assert train(None, "--resume", str(tmp_path / "run"))[0] == 0
    else:
        assert "stopped in the last evaluation, checkpoint written; to evaluate it\n" in out


@pytest.mark.mpirun
@pytest.mark.parametrize("ranks", [0, 2])
def test_a_stop_is_answered_within_five_seconds(start, text_file, tmp_path, ranks):
    """The default model, in an evaluation that would take minutes."""
    (tmp_path / "long.txt").write_text("".join(f"{i} " + text_file.read_text() for i in range(400)))
    settings = [f"--data.path={tmp_path / 'long.txt'}", "--data.tokenizer=byte", "--data.val_fraction=0.6"]
    settings += [f"--data.cache_dir={tmp_path / 'cache'}", "--train.run_dir=run", "--train.eval_interval=1"]
    job = start(ranks, "-m", "dist_llm.train", *settings, "--parallel.threads=1")
    for line in job.process.stdout:
        if "] step 1/" in line:
            break
    time.sleep(1)
    asked = time.monotonic()
    job.process.send_signal(signal.SIGUSR1)
    result = job.wait(60)
    assert time.monotonic() - asked < 5
    assert result.returncode == 0, result.stderr
    assert "stopped after step 1 of 300, checkpoint written" in result.stdout
    assert find_checkpoint(tmp_path / "run").name == "step-00000001"
