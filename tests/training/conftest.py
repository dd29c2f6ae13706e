"""Training in the tests' own processes: one alone, or the ranks of ``mpirun python -m pytest --with-mpi``."""

from collections.abc import Callable

import pytest

from dist_llm.parallel.comm import Comm, SerialComm
from dist_llm.parallel.mpi_comm import MPIComm
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


@pytest.fixture(scope="session")
def comm_of(world) -> Callable[[int], Comm | None]:
    """``comm_of(n)`` connects the first n ranks, and is None on the others; of 0 ranks, it is rank 0 without MPI."""
    made: dict[int, Comm | None] = {0: SerialComm() if world.rank == 0 else None, world.size: world}

    def comm_of(n: int) -> Comm | None:
        if n > world.size:
            pytest.skip(f"needs {n} ranks, and there are {world.size}")
        if n not in made:
            mine = world.rank < n
            part = world._comm.Split(int(mine), world.rank)
            made[n] = MPIComm(part) if mine else None
        return made[n]

    return comm_of


@pytest.fixture
def train_on(world, comm_of, train_arguments, mpi_tmp_path, monkeypatch):
    """``train_on(n, "run", ...)`` trains on n ranks into a folder that all ranks see; returns its path."""
    monkeypatch.chdir(mpi_tmp_path)

    def train_on(n: int, run_dir: str | None, *more: str):
        comm = comm_of(n)
        if comm is not None:
            assert main(train_arguments(run_dir, *more)[2:] if run_dir else list(more), comm) == 0
        world.allgather(None)  # the others have waited until all is written
        return mpi_tmp_path / run_dir if run_dir else None

    return train_on
