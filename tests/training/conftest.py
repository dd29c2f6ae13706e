"""Training in the test's own process."""

import pytest

from dist_llm.parallel.program import run as run_program
from dist_llm.train import main


@pytest.fixture
def train(train_arguments, tmp_path, monkeypatch, capfd):
    """``train("run", "--train.max_steps=5")`` trains in this process; returns (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)

    def train(run_dir: str | None, *more: str) -> tuple[int, str, str]:
        arguments = train_arguments(run_dir, *more)[2:] if run_dir else list(more)
        status = run_program(main, arguments)
        return status, *capfd.readouterr()

    return train
