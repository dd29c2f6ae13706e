"""How commands end, in one process; tests/faults has several."""

import signal
import sys

import pytest

from dist_llm.errors import RunError, UserError
from dist_llm.parallel.launcher import LAUNCHER_RANKS, LAUNCHER_SIZES
from dist_llm.parallel.program import run


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in (*LAUNCHER_SIZES, *LAUNCHER_RANKS):
        monkeypatch.delenv(name, raising=False)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    handlers = {number: signal.getsignal(number) for number in numbers}
    # As in a program that was started from a terminal, whatever these tests were started from.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in numbers[1:]:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def raising(error: BaseException):
    def main(argv, comm):
        raise error

    return main


def test_the_status_of_success_is_the_commands():
    assert run(lambda argv, comm: len(argv) + comm.size, ["a", "b"]) == 3


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("no such file: name another"), 2, "error: no such file: name another\n"),
        (RunError("the loss is gone"), 1, "error: the loss is gone\n"),
        (OSError(28, "No space left on device", "run/metrics.jsonl"), 2,
         "error: cannot use run/metrics.jsonl: No space left on device\n"),
        (OSError(28, "No space left on device"), 2,
         "error: cannot use the disk or output: No space left on device\n"),
        (PermissionError(13, "Permission denied", "run"), 2, "error: cannot use run: Permission denied\n"),
    ],
)  # fmt: skip
def test_what_is_understood_is_one_line(capsys, error, status, line):
    assert run(raising(error), []) == status
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), FileNotFoundError(2, "a bug", "x")])
def test_what_is_not_understood_has_its_traceback(capsys, error):
    assert run(raising(error), []) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert "a bug" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_an_interrupted_command_says_so_and_no_more(capsys, number):
    def main(argv, comm):
        signal.raise_signal(number)
        return 0

    assert run(main, []) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_went_away(start):
    """As in ``python -m dist_llm.train --help | head -1``."""
    program = (
        "import sys; from dist_llm.parallel.program import run; sys.exit(run(lambda argv, comm: print('x' * 10**6)))"
    )
    job = start(0, "-c", program)
    job.process.stdout.close()
    assert job.process.wait(60) == 141
    assert job.process.stderr.read() == ""


def test_a_launcher_that_started_strangers(monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    for rank, lines in ((0, 1), (3, 0)):
        monkeypatch.setenv("OMPI_COMM_WORLD_RANK", str(rank))
        assert run(lambda argv, comm: 0, []) == 2
        assert capsys.readouterr().err.count("mpi4py cannot be used") == lines
