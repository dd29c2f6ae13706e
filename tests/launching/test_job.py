"""How a launcher is ended: asked, told, killed, and with nothing left. Python stands in for mpirun."""

import os
import signal
import sys
import threading
import time

import psutil
import pytest

from dist_llm.launching.job import Stop, run_job

POLITE = (
    "import signal, sys; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(7)); print('up', flush=True); signal.pause()"
)
DEAF = "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN); print('up', flush=True); signal.pause()"
# A grandchild in a session of its own, as the ranks of some launchers are, that ignores what it can.
LEAVES_ONE_BEHIND = """
import subprocess, sys
child = '''
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
signal.pause()
'''
process = subprocess.Popen([sys.executable, "-c", child], start_new_session=True, stdout=subprocess.PIPE)
open(sys.argv[1], "wb").write(process.stdout.readline())
"""


@pytest.fixture(autouse=True)
def unchanged_handlers():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


def run(program: str, signals: dict[float, int], grace_s: float = 60) -> tuple[int, float]:
    """The status of a job whose starter gets signals after so many seconds, and the seconds it took."""
    timers = [threading.Timer(after_s, os.kill, (os.getpid(), number)) for after_s, number in signals.items()]
    with Stop().listening() as stop:
        for timer in timers:
            timer.start()
        started = time.monotonic()
        status = run_job([sys.executable, "-c", program], os.environ, stop, grace_s)
        took_s = time.monotonic() - started
        for timer in timers:
            timer.cancel()
            timer.join()
    return status, took_s


def test_the_status_is_the_launchers():
    assert run("raise SystemExit(3)", {})[0] == 3
    assert run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", {})[0] == 137


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_the_first_signal_asks(number):
    assert run(POLITE, {0.5: number})[0] == 7


def test_who_does_not_listen_is_ended_when_his_time_is_over(capfd):
    status, took_s = run(DEAF, {0.5: signal.SIGTERM, 0.6: signal.SIGTERM}, grace_s=2)
    assert status == 128 + signal.SIGTERM
    assert took_s > 2.4  # `timeout` signals twice within an instant: that is one wish
    assert "have not ended within 2 s" in capfd.readouterr().err


def test_a_second_signal_ends_at_once(capfd):
    status, took_s = run(DEAF, {0.5: signal.SIGINT, 1.8: signal.SIGINT}, grace_s=120)
    assert status == 128 + signal.SIGTERM
    assert took_s < 60
    assert [line for line in capfd.readouterr().err.splitlines() if line] == [
        "launch: stopping: the ranks finish a step and save; once more to end them now",
        "launch: ending the ranks",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_no_process_is_left(tmp_path):
    file = tmp_path / "pid"
    with Stop().listening() as stop:
        assert run_job([sys.executable, "-c", LEAVES_ONE_BEHIND, str(file)], os.environ, stop, 1) == 0
    assert not psutil.pid_exists(int(file.read_text()))
