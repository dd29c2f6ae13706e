"""Signals at every moment of the start-up: one line, and no traceback."""

import os
import signal
import sys
import time

import pytest

from dist_llm import interrupts


@pytest.mark.parametrize(
    ("argv", "original", "expected"),
    [
        (["-m"], ["python", "-m", "dist_llm.train", "--help"], True),
        (["-m"], ["python", "-W", "error", "-m", "dist_llm"], True),
        (["-m"], ["python", "-m", "pytest", "dist_llm"], False),
        (["-m"], ["python", "-m", "dist_llm_other"], False),
        (["/usr/bin/dist-llm", "train"], ["python", "/usr/bin/dist-llm", "train"], True),
        (["my.py", "-m"], ["python", "my.py", "-m", "dist_llm"], False),
        ([""], ["python"], False),
        ([], [], False),
    ],
)
def test_who_is_a_program(monkeypatch, argv, original, expected):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", original)
    assert interrupts.is_program() is expected


def test_a_file_that_was_just_being_opened_is_not_complained_of(run, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, time\n"
        "from dist_llm import interrupts\n"
        "interrupts.listen()\n"
        "interrupts.raise_at_first()\n"
        "try:\n"
        "    opened = open(os.devnull), os.kill(os.getpid(), signal.SIGINT), time.sleep(9)\n"
        "except KeyboardInterrupt:\n"
        "    print('raised')\n"
    )
    result = run(0, script)
    assert (result.stdout, result.stderr) == ("raised\n", "")


@pytest.mark.mpirun
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_in_the_start_up_is_answered_in_a_line(start, train_arguments, number):
    # Python itself needs some hundredths of a second, in which it knows nothing of this package.
    for i, delay_s in enumerate((0.15, 0.25, 0.4, 0.6)):
        job = start(0, *train_arguments(f"run-{i}", "--train.max_steps=1000000"))
        time.sleep(delay_s)
        os.kill(job.process.pid, number)
        result = job.wait(60)
        assert "Traceback" not in result.stderr
        # It was early, or training has begun, and a checkpoint is written.
        assert (result.returncode, result.stderr) in [(130, "interrupted\n"), (0, "")]


@pytest.mark.mpirun
@pytest.mark.parametrize("delay_s", [0.5, 0.8, 1.2])
def test_a_signal_in_the_start_up_of_ranks_is_answered_in_a_line(start, train_arguments, delay_s):
    job = start(2, *train_arguments("run", "--train.max_steps=1000000"))
    time.sleep(delay_s)
    os.kill(job.process.pid, signal.SIGUSR1)
    result = job.wait(60)
    assert "Traceback" not in result.stderr
    assert result.stderr.count("interrupted") <= 1
