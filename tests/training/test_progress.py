import os
import pty
import subprocess
import sys
import time

from dist_llm.training.progress import Progress, terminal_columns
from tests.conftest import environment


def test_plain_lines_where_there_is_no_terminal(capsys):
    progress = Progress(0, 100, shown=True)
    for step in range(1, 101):
        progress.step(step, 2.5, 1e-3, 12345.6)
    progress.say("validation")
    progress.close()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22  # the first step, every twentieth part, and what was said
    assert lines[0].startswith("[                    ] step 1/100  loss 2.500  lr 1.0e-03  12,346 tokens/s")
    assert lines[-2].startswith("[####################] step 100/100")
    assert lines[-2].endswith("0:00 left")
    assert lines[-1] == "validation"


def test_an_evaluation_that_takes_long_is_told_of_now_and_then(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    progress = Progress(0, 10, shown=True)
    for evaluation_s in (14, 40):  # the first one is over before anything is said
        clock[0] += 100  # of training
        for done in range(1, 21):
            clock[0] += evaluation_s / 20
            progress.evaluating(done, 20)
    assert capsys.readouterr().out == "evaluating: 45%\nevaluating: 85%\n"


def test_the_other_ranks_are_silent(capsys):
    progress = Progress(0, 10, shown=False)
    progress.step(1, 2.5, 1e-3, 1.0)
    progress.say("validation")
    progress.close()
    assert capsys.readouterr().out == ""


def test_a_bar_on_a_terminal():
    """In a process of its own, whose output really is a terminal."""
    program = (
        "import time\n"
        "from dist_llm.training.progress import Progress\n"
        "p = Progress(5, 10, shown=True)\n"
        "for step in range(6, 11): time.sleep(0.11); p.step(step, 2.5, 1e-3, 12345.6)\n"
        "p.say('validation'); p.close()\n"
    )
    master, slave = pty.openpty()  # without rows and columns, like those that Open MPI gives its ranks
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=slave, stderr=slave, env=environment(COLUMNS="90")
    )
    os.close(slave)
    text = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:  # Linux says so when the other end is closed
            break
        if not chunk:
            break
        text += chunk
    os.close(master)
    assert process.wait(30) == 0, text
    shown = text.decode()
    assert "10/10" in shown
    assert "loss 2.500" in shown
    assert "\r" in shown
    assert "validation" in shown


def test_under_open_mpi_the_launcher_tells_whether_a_person_watches(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE", raising=False)
    monkeypatch.setenv("COLUMNS", "77")
    assert terminal_columns() == 77
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert terminal_columns() == 0
    monkeypatch.setenv("DIST_LLM_TERMINAL_COLUMNS", "88")
    assert terminal_columns() == 88
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert terminal_columns() == 0
