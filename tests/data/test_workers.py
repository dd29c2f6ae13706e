import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from dist_llm.data.workers import Workers
from dist_llm.errors import RunError, UserError
from tests.conftest import environment


def square(n: int) -> int:
    return n * n


def late_square(n: int) -> int:
    time.sleep(0.05 * (n % 3 == 0))
    return n * n


def pid(n: int) -> int:
    time.sleep(0.02)
    return os.getpid()


def fail_at_5(n: int) -> int:
    if n == 5:
        raise UserError("five is too many: use four")
    return n


def end_at_5(n: int) -> int:
    if n == 5:
        os._exit(7)
    return n


@pytest.mark.parametrize("n", [1, 2, 3])
def test_results_come_in_the_order_of_the_jobs(n):
    with Workers(n) as workers:
        for jobs in (20, 2, 1, 0):
            assert list(workers.map(late_square, iter(range(jobs)))) == [i * i for i in range(jobs)]


def test_one_job_starts_no_process():
    with Workers(3) as workers:
        assert list(workers.map(pid, [1])) == [os.getpid()]
        assert not multiprocessing.active_children()


def test_all_processes_share_the_work_and_end():
    with Workers(2) as workers:
        pids = set(workers.map(pid, range(20)))
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("n", [1, 2])
def test_an_error_of_a_job_is_raised_here(n):
    with pytest.raises(UserError, match="five is too many: use four"), Workers(n) as workers:
        list(workers.map(fail_at_5, range(20)))
    assert not multiprocessing.active_children()


def test_the_end_of_a_process_is_told():
    with pytest.raises(RunError, match=r"has ended \(exit code 7\).*goes on where"), Workers(2) as workers:
        list(workers.map(end_at_5, range(20)))
    assert not multiprocessing.active_children()


PROGRAM = """
import os, sys
from dist_llm.data.workers import Workers
from tests.data.test_workers import pid
if __name__ == "__main__":
    with Workers(2) as workers:
        for n, worker in enumerate(workers.map(pid, range(100_000))):
            if n < 20:
                print(worker, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_all_processes_end_when_the_first_one_does(tmp_path, number):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as program:
        assert program.stdout is not None
        pids = {int(program.stdout.readline()) for _ in range(20)}
        program.send_signal(number)
        program.wait(timeout=30)
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
