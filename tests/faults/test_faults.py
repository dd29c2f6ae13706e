"""How a run on several ranks ends when something goes wrong: soon, with the reason, and never by waiting for ever."""

import json
import os
import platform
import re
import signal
import time
from pathlib import Path

import pytest

from dist_llm.measuring.jobs import choose_launcher
from dist_llm.setup_mpi import STAND_IN
from dist_llm.training.checkpoint import find_checkpoint
from dist_llm.training.metrics import read_metrics

pytestmark = pytest.mark.mpirun
HOST = platform.node()


@pytest.fixture
def faulty(train_arguments, start):
    def faulty(ranks, fault, *more):
        return start(ranks, "-m", "tests.faults.faulty_train", fault, *train_arguments("run", *more)[2:])

    return faulty


@pytest.mark.parametrize("ranks", [2, 4])
def test_an_exception_on_one_rank_ends_all_with_its_traceback(faulty, ranks):
    started = time.monotonic()
    result = faulty(ranks, "exception").wait(60)
    assert time.monotonic() - started < 30
    assert result.returncode == 1
    assert f"[rank {ranks - 1} {HOST}] ZeroDivisionError: the fault of this rank alone" in result.stderr
    assert f'[rank {ranks - 1} {HOST}]   File "' in result.stderr
    assert "[rank 0" not in result.stderr


def test_a_user_error_on_one_rank_ends_all(faulty):
    result = faulty(3, "user_error").wait(60)
    assert result.returncode == 2
    assert f"[rank 2 {HOST}] error: this rank cannot read its shards: mount the disk" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_bug_on_rank_0_is_told_once_with_its_own_traceback(faulty):
    result = faulty(3, "bug_on_rank_0").wait(60)
    assert result.returncode == 1
    assert result.stderr.count("KeyError: 'a bug in what rank 0 does alone'") == 1
    assert re.search(rf"^\[rank 0 {HOST}\] .*in sample$", result.stderr, re.M)
    assert "[rank 1" not in result.stderr


def test_a_full_disk_is_told_once_and_ends_the_run_with_its_last_checkpoint(faulty, tmp_path):
    result = faulty(3, "disk_full", "--train.max_steps=40").wait(60)
    assert result.returncode == 2
    told, ended = re.findall("^.*cannot write the checkpoint .*$", result.stderr, re.M)
    assert told.startswith("cannot write the checkpoint run/checkpoints/step-00000010: [Errno 28] No space left")
    assert told.endswith("; the run goes on, and tries again at its next checkpoint")
    assert ended.startswith("error: cannot write the checkpoint run/checkpoints/step-00000040: [Errno 28] No space")
    assert "Traceback" not in result.stderr
    assert "[rank " not in result.stderr
    assert read_metrics(tmp_path / "run")[-1]["step"] == 40
    assert "finished" not in result.stdout


def test_a_disk_that_is_full_for_a_while_costs_no_more_than_checkpoints(faulty, tmp_path):
    options = ["--train.max_steps=50", "--train.checkpoint_interval=10", "--train.keep_checkpoints=9"]
    result = faulty(2, "disk_full_for_a_while", *options).wait(60)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("cannot write the checkpoint") == 1
    assert find_checkpoint(tmp_path / "run").name == "step-00000050"
    assert "finished" in result.stdout


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_run_folder_that_is_deleted_ends_the_run_with_a_line(faulty, tmp_path, ranks):
    result = faulty(ranks, "folder_deleted", "--train.max_steps=40").wait(60)
    assert result.returncode == 2, result.stderr
    assert len(re.findall("^error: the run folder run has been deleted or moved, ", result.stderr, re.M)) == 1
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()
    assert "finished" not in result.stdout


def test_a_killed_rank_ends_all(faulty):
    assert faulty(3, "killed").wait(60).returncode != 0


@pytest.mark.parametrize("fault", ["leaves", "leaves_at_once"])
def test_a_rank_that_leaves_ends_all(faulty, fault):
    started = time.monotonic()
    result = faulty(3, fault).wait(60)
    assert time.monotonic() - started < 30
    assert result.returncode != 0
    message = {
        "leaves": rf"\[rank 2 {HOST}\] error: left by sys.exit\(0\)",
        # Some launchers find it out before our watchdog does.
        "leaves_at_once": r"rank 2 (\(process \d+\) has ended without a word|with PID \d+ .* exiting\s+improperly)",
    }[fault]
    assert len(re.findall(message, result.stderr)) == 1, result.stderr


def test_a_frozen_rank_is_killed_and_its_stack_told(faulty):
    started = time.monotonic()
    result = faulty(3, "frozen").wait(60)
    assert time.monotonic() - started < 30
    assert result.returncode != 0
    assert len(re.findall(rf"^\[rank 1 {HOST}\] rank 2 \(process \d+\) is stopped", result.stderr, re.M)) == 1
    assert re.search(r"faulty_train\.py\", line \d+ in frozen", result.stderr)


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_rank_that_hangs_ends_the_job_with_its_stack(faulty, ranks):
    result = faulty(ranks, "hangs", "--parallel.timeout_s=2").wait(60)
    assert result.returncode != 0
    assert len(re.findall(rf"^\[rank {ranks - 1} {HOST}\] hangs in a step, for [23] s now", result.stderr, re.M)) == 1
    assert ", in hangs\n" in result.stderr
    assert "waits for other ranks" not in result.stderr


def test_replicas_that_come_apart_stop_the_run(faulty):
    result = faulty(3, "bit_flip").wait(60)
    assert result.returncode == 1
    assert (
        len(
            re.findall(
                "^error: after step 5 the parameters of rank 2 differ from those of rank 0",
                result.stderr,
                re.M,
            )
        )
        == 1
    )
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("not_a_number", r"the weights after step 2 are not finite numbers"),
        ("bad_gradient", r"the loss or gradient of step 3 is not a finite number"),
    ],
)
def test_what_is_not_a_number_stops_the_run(faulty, fault, message):
    result = faulty(2, fault, "--parallel.strategy=blocking").wait(60)
    assert result.returncode == 1
    assert len(re.findall(rf"^error: {message}", result.stderr, re.M)) == 1
    assert "Traceback" not in result.stderr
    assert "Warning" not in result.stderr


@pytest.mark.parametrize(
    ("ranks", "to", "number"),
    [
        (0, "program", signal.SIGINT),
        (0, "program", signal.SIGTERM),
        (0, "program", signal.SIGHUP),
        (1, "launcher", signal.SIGUSR1),
        (3, "launcher", signal.SIGUSR1),
        (3, "rank", signal.SIGTERM),
        (2, "our mpirun", signal.SIGINT),
        (2, "our mpirun", signal.SIGTERM),
        (2, "our mpirun", signal.SIGHUP),
    ],
)
def test_a_polite_signal_checkpoints_and_says_how_to_continue(faulty, run, tmp_path, ranks, to, number):
    if to == "our mpirun" and not launcher_is_ours():
        pytest.skip("this mpirun is not ours, and ends its ranks at SIGINT")
    job = faulty(ranks, "slow", "--train.max_steps=1000")
    wait_for_steps(tmp_path / "run" / "metrics.jsonl")
    if to == "rank":
        os.kill(rank_processes(job.process.pid)[-1], number)
    else:
        job.process.send_signal(number)
    result = job.wait(60)
    assert result.returncode == 0, result.stderr
    step = int(re.search(r"stopped after step (\d+) of 1000, checkpoint written", result.stdout)[1])
    launcher = f"mpirun -n {ranks} " if ranks > 1 else ""
    assert f"\n  {launcher}python -m dist_llm.train --resume run\n" in result.stdout
    state = json.loads((tmp_path / f"run/checkpoints/step-{step:08d}/state.json").read_text())
    assert state["step"] == step
    again = run(0, "-m", "dist_llm.train", "--resume", "run", f"--train.max_steps={step + 1}")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_program_started_in_the_background_of_a_script_answers_other_signals(
    start, train_arguments, tmp_path, number
):
    """A shell script's ``command &`` inherits an ignored SIGINT, and nohup's command an ignored SIGHUP."""
    in_the_background = ("sh", "-c", 'trap "" INT HUP; exec "$@"', "sh")
    arguments = ["tests.faults.faulty_train", "slow", *train_arguments("run", "--train.max_steps=1000")[2:]]
    job = start(0, "-m", *arguments, wrapper=in_the_background)
    wait_for_steps(tmp_path / "run" / "metrics.jsonl")
    for ignored in (signal.SIGINT, signal.SIGHUP):
        job.process.send_signal(ignored)
    time.sleep(0.5)
    assert job.process.poll() is None
    job.process.send_signal(number)
    result = job.wait(60)
    assert result.returncode == 0, result.stderr
    assert "checkpoint written" in result.stdout


def wait_for_steps(metrics: Path) -> None:
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        assert time.monotonic() < deadline, "no step was finished"
        time.sleep(0.05)


def launcher_is_ours() -> bool:
    return [Path(word).read_bytes() for word in choose_launcher().words] == [STAND_IN.read_bytes()]


def test_a_second_signal_ends_a_run_that_does_not_stop(start):
    if not launcher_is_ours():
        pytest.skip("this mpirun is not ours")
    stuck = (
        "import signal, time; signal.signal(signal.SIGUSR1, lambda *_: None); print('up', flush=True); time.sleep(600)"
    )
    job = start(2, "-c", stuck)
    assert [job.process.stdout.readline() for _ in range(2)] == ["up\n"] * 2
    job.process.send_signal(signal.SIGINT)
    time.sleep(1.5)
    assert job.process.poll() is None
    job.process.send_signal(signal.SIGINT)
    assert job.wait(30).returncode != 0


def rank_processes(launcher: int) -> list[int]:
    """The processes below a launcher that run our program."""
    import psutil

    children = psutil.Process(launcher).children(recursive=True)
    return [c.pid for c in children if "tests.faults.faulty_train" in c.cmdline() and "-n" not in c.cmdline()]


def test_bad_input_is_said_once_and_nothing_is_written(run, train_arguments, tmp_path):
    for more, message in (
        (["--train.batch_size=2"], r"error: 3 ranks but train.batch_size=2: every rank needs a sequence"),
        (["--model.n_heads=3"], r"error: model.dim=16 must be n_heads=3 times an even head size"),
        (["--data.path=nowhere.txt"], r"error: .*nowhere.txt"),
        (["--model.max_seq_len=99999"], r"error: the training text has \d+ tokens, fewer than"),
    ):
        result = run(3, *train_arguments("run", *more))
        assert result.returncode == 2, (more, result.stderr)
        assert len(re.findall(f"^{message}", result.stderr, re.M)) == 1, result.stderr
        assert len(re.findall("^error", result.stderr, re.M)) == 1, result.stderr
        assert "Traceback" not in result.stderr
        assert not Path(tmp_path / "run").exists()
