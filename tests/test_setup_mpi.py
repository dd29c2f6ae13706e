"""What pip's Open MPI is given, and that nothing else is touched."""

import os

import pytest

from dist_llm.parallel.comm import SerialComm
from dist_llm.setup_mpi import OVERSUBSCRIBE, STAND_IN, main, set_up


@pytest.fixture
def prefix(tmp_path):
    """An environment with an Open MPI as pip installs it."""
    for folder in ("bin", "etc"):
        (tmp_path / folder).mkdir()
    for name in ("mpiexec", "mpirun"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho the real one\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "etc/prte-mca-params.conf").write_text("# a setting = of Open MPI's\n")
    return tmp_path


def test_the_stand_in_and_the_settings_are_installed_once(prefix):
    for _ in range(2):
        assert str(prefix / "bin/mpirun") in set_up(prefix)
        assert (prefix / "bin/mpirun").read_bytes() == STAND_IN.read_bytes()
        assert os.access(prefix / "bin/mpirun", os.X_OK)
        settings = (prefix / "etc/prte-mca-params.conf").read_text().splitlines()
        assert settings == ["# a setting = of Open MPI's", OVERSUBSCRIBE]
    assert sorted(p.name for p in (prefix / "bin").iterdir()) == ["mpiexec", "mpirun"]


def test_another_mpi_is_left_as_it_is(prefix, monkeypatch, capsys):
    (prefix / "etc/prte-mca-params.conf").unlink()
    before = (prefix / "bin/mpirun").read_bytes()
    monkeypatch.setattr("sys.prefix", str(prefix))
    assert main([], SerialComm()) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (prefix / "bin/mpirun").read_bytes() == before
    assert not (prefix / "etc/prte-mca-params.conf").exists()
