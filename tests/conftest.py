"""Starting real processes: commands alone and under mpirun, with a time limit and nothing left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dist_llm.benchmarking.processes import find_mpirun

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 120

# A model and a text so small that a step takes a millisecond.
TINY = [
    "--model.dim=16", "--model.n_layers=2", "--model.n_heads=2", "--model.ffn_dim=24", "--model.max_seq_len=16",
    "--data.tokenizer=byte", "--train.batch_size=7", "--train.eval_interval=10", "--log.sample_tokens=5",
    "--optim.warmup_steps=5", "--parallel.threads=1", "--parallel.check_interval=5",
]  # fmt: skip


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

    def start(ranks: int, *arguments: object, **changes: str) -> Job:
        command = [sys.executable, *map(str, arguments)]
        if ranks:
            launcher = find_mpirun()
            if launcher is None:
                pytest.fail("mpirun is missing: ./launch/setup.sh installs it, -m 'not mpirun' leaves these tests out")
            command = [launcher, "-n", str(ranks), *command]
        jobs.append(Job(command, tmp_path, environment(**changes)))
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
