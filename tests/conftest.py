"""Two ways to test what several processes do.

Tests of what ranks do together are marked ``mpi`` and run in the ranks of ``mpirun -n N python -m pytest --with-mpi -m
mpi``; a rank that fails ends all, which would wait for it. Faults, signals and launchers are tested from outside, by
starting real processes, with a time limit and nothing left behind.
"""

import functools
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from dist_llm.measuring.jobs import choose_launcher
from dist_llm.parallel.comm import Comm, SerialComm
from dist_llm.parallel.launcher import LAUNCHER_RANKS, connect, from_launcher
from dist_llm.training.progress import terminal_columns

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 120

# A model and a text so small that a step takes a millisecond.
TINY = [
    "--model.dim=16", "--model.n_layers=2", "--model.n_heads=2", "--model.ffn_dim=24", "--model.max_seq_len=16",
    "--data.tokenizer=byte", "--train.batch_size=7", "--train.micro_batch_size=2", "--train.eval_interval=10",
    "--log.sample_tokens=5", "--optim.warmup_steps=5", "--parallel.threads=1", "--parallel.check_interval=5",
]  # fmt: skip


RANK = from_launcher(LAUNCHER_RANKS) or 0
MPI_FOLDERS = ("optim", "parallel", "scalability", "training")  # those with tests that are marked mpi
all_ranks = functools.cache(connect)  # to connect once more would be collective, and must not be left to a fixture


# What these tests were started with as ignored (SIGINT in the background of a script, SIGHUP by nohup) they ignore, and
# do not hand on: a started process has the usual signals.
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give each rank but the first a temporary folder of its own: pytest's are numbered, and cleared away by all."""
    if from_launcher(LAUNCHER_RANKS) is not None and not terminal_columns():
        config.option.color = "no"  # Open MPI gives ranks a terminal even where there is none
    if RANK:
        config.option.basetemp = tempfile.mkdtemp(prefix=f"rank-{RANK}-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove it."""
    if RANK:
        shutil.rmtree(config.option.basetemp, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Connect the ranks of ``--with-mpi``, and let rank 0 alone say how the tests go."""
    if session.config.getoption("--with-mpi"):
        all_ranks()
    if RANK:
        session.config.pluginmanager.getplugin("terminalreporter")._tw._file = io.StringIO()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what has no tests of ranks with ``--with-mpi``: each rank would import all of it, and PyTorch."""
    inside = collection_path.relative_to(ROOT / "tests").parts
    return True if config.getoption("--with-mpi") and inside and inside[0] not in MPI_FOLDERS else None


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Refuse a test of ranks elsewhere: it would never run on several."""
    tests = ROOT / "tests"
    elsewhere = [
        item.nodeid
        for item in items
        if item.get_closest_marker("mpi") and item.path.relative_to(tests).parts[0] not in MPI_FOLDERS
    ]
    if elsewhere:
        raise pytest.UsageError(f"tests of ranks lie in {', '.join(MPI_FOLDERS)} (tests/conftest.py): {elsewhere}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """End all ranks at the first failure of any, with its report."""
    report = yield
    if report.failed and item.get_closest_marker("mpi") and all_ranks().size > 1:
        with item.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            lines = [f"{item.nodeid} failed in its {report.when}", *report.longreprtext.splitlines()]
            sys.stderr.write("\n".join(f"[rank {RANK}] {line}" for line in lines) + "\n")
            sys.stderr.flush()
        all_ranks().abort(1)
    return report


@pytest.fixture(scope="session")
def world() -> Comm:
    """The communicator of all ranks that run these tests."""
    return all_ranks()


@pytest.fixture(params=["serial", pytest.param("ranks", marks=pytest.mark.mpi)])
def comm(request: pytest.FixtureRequest) -> Comm:
    """Each communicator that a test can have: of this process alone, and of all ranks."""
    return SerialComm() if request.param == "serial" else request.getfixturevalue("world")


def environment(**changes: str) -> dict[str, str]:
    """The environment of a started process: not itself under an MPI launcher, and one BLAS thread."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_", "PRTE_", "PMI_"))}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    env |= {"VIRTUAL_ENV": sys.prefix}  # as in an activated environment
    # For an Open MPI that launch/setup.sh has not prepared.
    env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    env |= {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    return env | changes


def processes_of(module: str, folder: Path) -> list[int]:
    """The running processes of ``python -m module`` that were started from this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if module in process.cmdline() and process.cwd() == str(folder):
                found.append(process.pid)
        except psutil.Error:  # it has ended meanwhile, or is none of ours
            continue
    return found


class Job:
    """A started job; ended, with all its processes, at the end of the test."""

    def __init__(self, command: list[str], cwd: Path, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, cwd=cwd, env=env, text=True, errors="replace", start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def wait(self, timeout: float = TIMEOUT_S) -> subprocess.CompletedProcess:
        """Wait for the end; a job that does not come to one fails the test."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            out, err = self.process.communicate()
            pytest.fail(f"still running after {timeout} s:\n{out[-3000:]}\n{err[-3000:]}")
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, out, err)

    def kill(self) -> None:
        """End the job at once."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                os.killpg(self.process.pid, number)
                try:
                    self.process.wait(5)
                except subprocess.TimeoutExpired:
                    continue


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """``start(n, "-m", "dist_llm.train", ...)`` starts Python on n ranks in tmp_path; n = 0 is without MPI."""
    jobs: list[Job] = []

    def start(
        ranks: int,
        *arguments: object,
        wrapper: Sequence[str] = (),
        launcher_options: Sequence[str] = (),
        **changes: str,
    ) -> Job:
        command = [sys.executable, *map(str, arguments)]
        if ranks:
            launcher = choose_launcher()
            if not launcher.words:
                pytest.fail("mpirun is missing: ./launch/setup.sh installs it, -m 'not mpirun' leaves these tests out")
            command = [*launcher.command(ranks, 1), *launcher_options, *command]
        jobs.append(Job([*wrapper, *command], tmp_path, environment(**changes)))
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()
        for stream in (job.process.stdout, job.process.stderr):
            stream.close()


@pytest.fixture
def run(start: Callable[..., Job]) -> Callable[..., subprocess.CompletedProcess]:
    """``run(n, "-m", "dist_llm.train", ...)`` starts Python on n ranks and waits for the end."""
    return lambda ranks, *arguments, **changes: start(ranks, *arguments, **changes).wait()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A browser, for pages; skips where there is no Chromium."""
    from tests.measuring.browser import start_browser  # not needed by the ranks of mpirun

    yield from start_browser()


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 3,900 characters with something to learn in it."""
    words = ["the", "king", "and", "his", "men", "went", "up", "hill", "down"]
    lines = [" ".join(words[(i * k) % len(words)] for k in range(1, 8)) for i in range(1, 131)]
    path = tmp_path_factory.mktemp("text") / "input.txt"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def train_arguments(text_file: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """``train_arguments("run", "--train.max_steps=5")``: a tiny training into tmp_path/run."""

    def arguments(run_dir: str, *more: str) -> list[str]:
        where = [
            f"--data.path={text_file}",
            f"--data.cache_dir={tmp_path / 'cache'}",
            f"--train.run_dir={run_dir}",
        ]
        return ["-m", "dist_llm.train", *TINY, *where, *more]

    return arguments
