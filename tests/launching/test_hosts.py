import time
from collections.abc import Callable

import pytest

from dist_llm.errors import UserError
from dist_llm.launching import hosts
from dist_llm.launching.hosts import Host, HostWatch, answering, parse_hosts, read_hostfile
from dist_llm.launching.mpi_command import MPICommand

TWO = [Host("ada", 4), Host("grace", 2)]


def test_hosts_are_named_in_the_manner_of_either_library(tmp_path):
    assert parse_hosts("ada:4,grace:2") == TWO
    assert parse_hosts("10.0.0.1") == [Host("10.0.0.1", 1)]
    file = tmp_path / "hosts"
    file.write_text("# ours\nada slots=4  # big\n\ngrace:2\nhopper\n")
    assert read_hostfile(file) == [*TWO, Host("hopper", 1)]


@pytest.mark.parametrize("text", ["", "ada:", "ada:0", "ada:x", "ada:4,,grace", "-oProxyCommand=x;y", "a b"])
def test_what_is_no_host(text, tmp_path):
    with pytest.raises(UserError, match="--host takes"):
        parse_hosts(text)
    (tmp_path / "hosts").write_text(f"ada\n{text or 'ada slots=many'}\n")
    with pytest.raises(UserError, match="hosts, line 2"):
        read_hostfile(tmp_path / "hosts")


def test_a_host_file_that_is_none(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_hostfile(tmp_path / "nowhere")
    (tmp_path / "empty").write_text("# nobody\n")
    with pytest.raises(UserError, match="names no host"):
        read_hostfile(tmp_path / "empty")


def test_hosts_that_do_not_answer_in_time_are_left_out(tmp_path, monkeypatch):
    shell = tmp_path / "shell"
    shell.write_text('#!/bin/sh\ncase $1 in ada) exec "$2" ;; slow) exec sleep 60 ;; *) exit 255 ;; esac\n')
    shell.chmod(0o755)
    monkeypatch.setattr(hosts, "ANSWER_S", 1.0)
    slow = Host("slow", 1)
    assert answering([*TWO, slow, Host("localhost", 1)], [str(shell)]) == [TWO[0], Host("localhost", 1)]


def test_a_host_counts_as_lost_when_it_was_silent_twice_in_a_row(tmp_path, monkeypatch):
    shell, silent = tmp_path / "shell", tmp_path / "silent"
    shell.write_text(f'#!/bin/sh\necho "$1" >> "{tmp_path}/asked"\n[ "$1" = ada ] || [ ! -e "{silent}" ]\n')
    shell.chmod(0o755)
    monkeypatch.setattr(hosts, "WATCH_INTERVAL_S", 0.05)

    def asked() -> int:
        return (tmp_path / "asked").read_text().count("grace") if (tmp_path / "asked").exists() else 0

    def until(true: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not true():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    with HostWatch(TWO, [str(shell)]) as watch:
        until(lambda: asked() >= 3)
        assert watch.lost == ""
        silent.touch()
        before = asked()
        until(lambda: watch.lost)
        assert watch.lost == "grace"
        assert asked() >= before + 1
    with HostWatch([], ["nowhere"]) as nobody:
        assert nobody.lost == ""


@pytest.fixture
def mpirun(tmp_path):
    """``mpirun("Open MPI")``: a launcher that calls itself so."""

    def mpirun(name):
        path = tmp_path / "mpirun"
        path.write_text(f"#!/bin/sh\necho 'mpirun ({name}) 5'\n")
        path.chmod(0o755)
        return str(path)

    return mpirun


def test_each_librarys_launcher_is_told_in_its_own_words(mpirun):
    words = MPICommand([mpirun("Open MPI")], "ssh", recover=True).words(6, TWO)[1:]
    assert " ".join(words) == "--with-ft ulfm --host ada:4,grace:2 --map-by slot --bind-to none -n 6"
    words = MPICommand([mpirun("HYDRA")], "ssh", recover=False).words(6, TWO)[1:]
    assert " ".join(words) == "-hosts ada:4,grace:2 -n 6"
    assert MPICommand(["nowhere"], "ssh", recover=False).words(6, []) == ["nowhere", "-n", "6"]


def test_what_a_launcher_cannot_do_is_told(mpirun):
    with pytest.raises(UserError, match=r"--recover needs Open MPI 5, and .*mpirun is MPICH"):
        MPICommand([mpirun("HYDRA")], "ssh", recover=True).words(2, [])
    with pytest.raises(UserError, match=r"go with Open MPI and MPICH, not with .*mpirun --fast"):
        MPICommand([mpirun("Another"), "--fast"], "ssh", recover=False).words(2, TWO)


def test_another_remote_shell_is_named_to_both():
    environment = MPICommand(["mpirun"], "ssh -p 2222", recover=False).environment({"HOME": "/h"})
    assert environment["PRTE_MCA_plm_ssh_agent"] == "ssh -p 2222"
    assert (environment["HYDRA_LAUNCHER_EXEC"], environment["HYDRA_LAUNCHER_EXTRA_ARGS"]) == ("ssh", "-p 2222")
    assert "HYDRA_LAUNCHER" not in MPICommand(["mpirun"], "ssh", recover=False).environment({})
