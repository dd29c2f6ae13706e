"""Which communicator a process gets, by what its launcher says."""

import pytest

from dist_llm.errors import UserError
from dist_llm.parallel import launcher
from dist_llm.parallel.comm import SerialComm
from dist_llm.parallel.launcher import LAUNCHER_RANKS, LAUNCHER_SIZES, MPIComm, connect


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in (*LAUNCHER_SIZES, *LAUNCHER_RANKS):
        monkeypatch.delenv(name, raising=False)


def test_without_a_launcher_there_is_no_mpi():
    assert isinstance(connect(), SerialComm)


@pytest.mark.parametrize(
    "error",
    [ImportError("No module named 'mpi4py'"), RuntimeError("cannot load MPI library\nlibmpi.so.12: no such file")],
)
def test_a_launcher_without_mpi4py_is_an_error_and_not_four_trainings(monkeypatch, error):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")

    def no_mpi4py(self):
        raise error

    monkeypatch.setattr(MPIComm, "__init__", no_mpi4py)
    with pytest.raises(UserError, match=r"4 processes were started, but mpi4py cannot be used .*pip install") as raised:
        connect()
    assert "\n" not in str(raised.value)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    assert isinstance(connect(), SerialComm)
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE")
    monkeypatch.setenv("PALS_RANKID", "3")
    with pytest.raises(UserError, match="several processes were started"):
        connect()


def test_a_batch_script_is_no_launcher(monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert isinstance(connect(), SerialComm)


def test_a_launcher_of_another_mpi_is_an_error(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")

    def alone(self):
        self.size = 1

    monkeypatch.setattr(launcher.MPIComm, "__init__", alone)
    with pytest.raises(UserError, match="started 4 processes but MPI sees 1"):
        connect()
