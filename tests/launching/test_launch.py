"""``dist-llm launch`` with real ranks: its status, its restarts, and what signals do."""

import json
import os
import re
import signal
import stat
import time
from pathlib import Path

import psutil
import pytest
from safetensors.numpy import load_file

from dist_llm.launching.mpi_command import MPICommand
from dist_llm.measuring.jobs import choose_launcher
from dist_llm.training.end_mark import EndMark, read_end_mark

LONG = ("--train.max_steps=150", "--train.checkpoint_interval=20", "--train.eval_interval=0")


@pytest.fixture
def launch(start, train_arguments):
    """``launch(("-n", 2), "run", "--train.max_steps=5")`` starts a tiny training under the launcher."""

    def launch(wishes, run_dir, *more, **changes):
        words = [*map(str, wishes), "--", *train_arguments(run_dir, *more)[2:]]
        return start(0, "-m", "dist_llm.launch", *words, **changes)

    return launch


def own_lines(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("launch: ")]


def wait_for_steps(run: Path, steps: int) -> None:
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists() or (run / "metrics.jsonl").read_bytes().count(b"\n") < steps:
        assert time.monotonic() < deadline, f"no {steps} steps"
        time.sleep(0.02)


def ranks_of(launcher: psutil.Process) -> list[psutil.Process]:
    """The processes below a launcher that train."""
    below = launcher.children(recursive=True)
    return [p for p in below if "dist_llm.train" in p.cmdline() and "-n" not in p.cmdline()]


@pytest.mark.mpirun
def test_a_run_that_finishes_says_so_itself(launch, tmp_path):
    result = launch(("-n", 2), "run", "--train.max_steps=7").wait()
    assert result.returncode == 0, result.stderr
    assert read_end_mark(tmp_path / "run") == EndMark("finished", 7, 7)
    assert own_lines(result.stderr) == ["launch: 2 ranks: run", "launch: finished at step 7 of 7"]


@pytest.mark.mpirun
def test_a_killed_rank_costs_a_restart_and_no_bit(launch, tmp_path):
    options = (*LONG, "--parallel.strategy=deterministic")
    assert launch(("-n", 2), "calm", *options).wait().returncode == 0
    job = launch(("-n", 2, "--restarts", 2), "run", *options)
    wait_for_steps(tmp_path / "run", 50)
    ranks_of(psutil.Process(job.process.pid))[1].kill()
    result = job.wait()
    assert result.returncode == 0, result.stderr
    lines = "\n".join(own_lines(result.stderr))
    assert re.search(r"launch: run ended with status \d+ after \d+ s, .*; restart 1 of 2 in 1 s", lines)
    assert re.search(r"launch: continuing from run/checkpoints/step-00000(0[4-9]|1)\d+$", lines, re.M)
    assert read_end_mark(tmp_path / "run") == EndMark("finished", 150, 150)
    for file in ("model", "optimizer"):
        ours, calm = (
            load_file(tmp_path / f"{r}/checkpoints/step-00000150/{file}.safetensors") for r in ("run", "calm")
        )
        assert all((ours[name] == calm[name]).all() for name in calm)
    metrics = [(tmp_path / r / "metrics.jsonl").read_text().splitlines() for r in ("run", "calm")]
    losses = [[json.loads(line)["loss"] for line in lines] for lines in metrics]
    assert losses[0] == losses[1]


@pytest.mark.mpirun
def test_with_recover_a_killed_rank_costs_no_restart(launch, tmp_path):
    if MPICommand(choose_launcher().words, "ssh", recover=True).mpi_library() != "Open MPI":
        pytest.skip("ranks survive under Open MPI only")
    job = launch(("-n", 3, "--recover"), "run", *LONG, "--parallel.strategy=deterministic")
    wait_for_steps(tmp_path / "run", 30)
    ranks_of(psutil.Process(job.process.pid))[1].kill()
    result = job.wait()
    assert result.returncode == 0, result.stderr
    assert own_lines(result.stderr) == ["launch: 3 ranks: run", "launch: finished at step 150 of 150"]
    assert "lost rank" in result.stdout


@pytest.mark.mpirun
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop_saves_and_is_not_started_again(launch, tmp_path, number):
    options = ("--train.max_steps=100000", "--train.eval_interval=0")
    job = launch(("-n", 2, "--restarts", 2), "run", *options)
    wait_for_steps(tmp_path / "run", 5)
    launcher = psutil.Process(job.process.pid)
    below = launcher.children(recursive=True)
    launcher.send_signal(number)
    result = job.wait()
    assert result.returncode == 0, result.stderr
    mark = read_end_mark(tmp_path / "run")
    assert mark.how == "stopped"
    assert own_lines(result.stderr)[1:] == [
        "launch: stopping: the ranks finish a step and save; once more to end them now",
        f"launch: stopped at step {mark.step} of 100000",
    ]
    assert not any(process.is_running() for process in below)
    wanted = f"--train.max_steps={mark.step + 3}"
    again = launch(("-n", 2, "--continue"), "run", *options[1:], wanted).wait()
    assert again.returncode == 0, again.stderr
    assert read_end_mark(tmp_path / "run") == EndMark("finished", mark.step + 3, mark.step + 3)
    last = launch(("-n", 2, "--continue"), "run", *options[1:], wanted).wait()
    assert (last.returncode, last.stdout) == (0, "")
    assert own_lines(last.stderr) == [f"launch: run is finished: {mark.step + 3} of {mark.step + 3} steps"]


@pytest.mark.mpirun
def test_the_ranks_do_not_outlive_a_killed_launcher(launch, tmp_path):
    job = launch(("-n", 2), "run", "--train.max_steps=100000", "--train.eval_interval=0")
    wait_for_steps(tmp_path / "run", 5)
    below = psutil.Process(job.process.pid).children(recursive=True)
    job.process.kill()
    _, alive = psutil.wait_procs(below, 30)
    assert not alive


@pytest.mark.mpirun
def test_a_mistake_is_not_repeated(launch, tmp_path):
    result = launch(("-n", 2, "--restarts", 3), "run", "--data.path=nowhere.txt").wait()
    assert result.returncode == 2
    assert len(re.findall("^error: .*nowhere.txt", result.stderr, re.M)) == 1
    assert "restart" not in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture
def pretender(tmp_path):
    """A launcher that does nothing but this, and logs its words."""

    def pretender(script):
        path = tmp_path / "pretender"
        path.write_text(f'#!/bin/sh\ncat >> "{tmp_path}/words" <<.\n$*\n.\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return pretender


def test_a_status_of_0_is_not_believed(launch, pretender, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/end.json").write_text('{"how": "finished", "step": 9, "max_steps": 9}')  # of an earlier start
    result = launch(("-n", 3, "--launcher", pretender("exit 0")), "run").wait(20)
    assert result.returncode == 1
    assert own_lines(result.stderr)[-1].endswith("and not as it should: there is no new end.json")
    words = (tmp_path / "words").read_text().split()
    assert words[:2] == ["-n", "3"]
    assert words[3:5] == ["-m", "dist_llm.train"]


def test_what_a_crashed_start_left_is_set_aside(launch, pretender, tmp_path):
    script = 'mkdir run && echo "# half" > run/config.toml; exit 1'
    result = launch(("-n", 1, "--restarts", 2, "--launcher", pretender(script)), "run").wait(20)
    assert result.returncode == 1
    assert re.findall(r"restart \d of 2 in \d s", result.stderr) == ["restart 1 of 2 in 1 s", "restart 2 of 2 in 2 s"]
    assert [(tmp_path / f"run.abandoned-{n}/config.toml").exists() for n in (1, 2, 3)] == [True, True, False]
    assert "--resume" not in (tmp_path / "words").read_text()


def test_a_damaged_checkpoint_is_passed_over(run, launch, pretender, train_arguments, tmp_path):
    assert run(0, *train_arguments("run", "--train.max_steps=20", "--train.checkpoint_interval=5")).returncode == 0
    (tmp_path / "run/checkpoints/step-00000020/model.safetensors").write_bytes(b"half")
    words = ("-n", 1, "--continue", "--launcher", pretender("exit 1"))
    result = launch(words, "run", "--train.max_steps=30", "--init-from=elsewhere").wait(20)
    assert "step-00000020 is damaged: model.safetensors is truncated or altered" in result.stderr
    arguments = (tmp_path / "words").read_text().split()
    good = sorted((tmp_path / "run/checkpoints").iterdir())[-2].name
    assert arguments[-2:] == ["--resume", f"run/checkpoints/{good}"]
    assert "--init-from=elsewhere" not in arguments


@pytest.mark.parametrize(("wishes", "status"), [((), 138), (("--continue",), 75)])
def test_a_stop_in_the_start_up_is_no_crash(launch, pretender, tmp_path, wishes, status):
    """Ranks that do not listen yet are ended by the signal."""
    waiting = pretender("trap 'exit 138' USR1; while :; do sleep 0.05; done")
    job = launch((*wishes, "--restarts", 1, "--launcher", waiting), "run")
    deadline = time.monotonic() + 30
    while not (tmp_path / "words").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    job.process.send_signal(signal.SIGTERM)
    result = job.wait(20)
    assert result.returncode == status
    assert own_lines(result.stderr)[-1] == "launch: stopped before the first step"


def test_lost_hosts_are_left_out(launch, pretender, tmp_path):
    shell = tmp_path / "shell"
    shell.write_text(f'#!/bin/sh\n[ "$1" = ada ] && [ -e "{tmp_path}/words" ]\n')
    shell.chmod(0o755)
    script = '[ "$1" != --version ] || echo "mpirun (Open MPI) 5.0"; exit 1'
    words = ("--host", "ada:2,grace:3", "--ssh", shell, "--restarts", 1, "--launcher", pretender(script))
    result = launch(words, "run").wait(60)
    assert "launch: left out, as it does not answer: grace" in result.stderr
    starts = [line for line in (tmp_path / "words").read_text().splitlines() if line != "--version"]
    assert [re.search("--host (.*) --map-by .* -n (.)", line).groups() for line in starts] == [
        ("ada:2,grace:3", "5"),
        ("ada:2", "2"),
    ]


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        (("-n", "0"), "takes a whole number from 1 on"),
        (("-n", "9", "--host", "ada:2"), "-n 9, but the hosts take 2 ranks"),
        (("--launcher", "nowhere"), "there is no program 'nowhere'"),
        (("--grace-s", "nan"), "takes a number of seconds"),
        (("--ssh", ""), "--ssh is empty"),
        (("--host", "a", "--hostfile", "b"), "not allowed with argument"),
    ],
)
def test_mistakes_are_one_line(launch, tmp_path, wishes, message):
    result = launch(wishes, "run").wait(30)
    assert result.returncode == 2
    assert re.fullmatch(f"error: .*{re.escape(message)}.*\n", result.stderr), result.stderr
    assert not (tmp_path / "run").exists()


def test_training_options_are_checked_before_anything_starts(launch, tmp_path, pretender):
    result = launch(("--launcher", pretender("exit 0")), "run", "--train.max_step=3").wait(30)
    assert (result.returncode, result.stderr) == (
        2, "error: unknown option --train.max_step=3; did you mean --train.max_steps?\n",
    )  # fmt: skip
    assert not (tmp_path / "words").exists()


def test_an_unnamed_run_is_numbered_and_nothing_of_it_is_left_if_nothing_came_of_it(start, pretender, tmp_path):
    result = start(0, "-m", "dist_llm.launch", "--launcher", pretender("exit 3")).wait(30)
    assert result.returncode == 3
    assert "--train.run_dir=runs/run-001" in (tmp_path / "words").read_text()
    assert os.listdir(tmp_path / "runs") == []


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"how": "well", "step": 1, "max_steps": 2}', "x" * 2000,
                                  '{"how": "finished", "step": "1", "max_steps": 2}'])  # fmt: skip
def test_a_mark_that_no_run_has_written_is_none(tmp_path, text):
    (tmp_path / "end.json").write_text(text)
    assert read_end_mark(tmp_path) is None
