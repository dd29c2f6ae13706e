"""Ranks that would not compute the same are told at the start."""

import re
import shutil
import socket
from pathlib import Path

import pytest

import dist_llm
from dist_llm.errors import UserError
from dist_llm.parallel.comm import SerialComm
from dist_llm.parallel.same_program import check_same_program, code_fingerprint, program

PACKAGE = Path(dist_llm.__file__).parent


class Gathered(SerialComm):
    """What a communicator would gather from ranks of two hosts."""

    def __init__(self, *changes):
        super().__init__()
        self.size, self.changes = len(changes), changes

    def allgather(self, value):
        host, own = value
        return [(host, own) if not change else ("grace", own | change) for change in self.changes]


def test_the_same_program_on_all_ranks_is_no_error():
    check_same_program(Gathered({}, {}, {}), ["--a"])


def test_who_differs_is_named_and_in_what():
    old = {"NumPy": "2.0.1", "dist_llm's code": "0123456789ab"}
    with pytest.raises(UserError) as error:
        check_same_program(Gathered({}, old, {}, old, {"arguments": "[--b]"}), ["--a", "b c"])
    assert error.value.agreed
    ours = program(SerialComm(), [])
    code = ours["dist_llm's code"]
    assert str(error.value) == (
        f"not all ranks run the same program as rank 0 on {socket.gethostname()}: ranks 1, 3 on grace: "
        f"dist_llm's code 0123456789ab instead of {code}, NumPy 2.0.1 instead of {ours['NumPy']}; "
        "rank 4 on grace: arguments [--b] instead of [--a 'b c']; install and start the same everywhere"
    )


def test_a_changed_letter_a_new_and_a_renamed_file_change_the_fingerprint(tmp_path):
    copy = tmp_path / "dist_llm"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    seen = [code_fingerprint(PACKAGE), code_fingerprint(copy)]
    assert seen[0] == seen[1]
    (copy / "train.py").write_text((copy / "train.py").read_text().replace("Train", "Tram"))
    seen.append(code_fingerprint(copy))
    (copy / "model/new.py").touch()
    seen.append(code_fingerprint(copy))
    (copy / "model/new.py").rename(copy / "model/newer.py")
    seen.append(code_fingerprint(copy))
    assert len(set(seen)) == 4


@pytest.mark.mpirun
def test_real_ranks_with_other_code_and_arguments(start, tmp_path):
    """Rank 1 of 3 imports a copy of the package that differs in a letter, and is given another argument."""
    shutil.copytree(PACKAGE, tmp_path / "other" / "dist_llm", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "other/dist_llm/model/rope.py").open("a") as file:
        file.write("# another letter\n")
    rank = (
        'case "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" in 1) export PYTHONPATH=other; set -- "$@" --more;; esac; exec "$@"'
    )
    (tmp_path / "rank").write_text(f"#!/bin/sh\n{rank}\n")
    (tmp_path / "rank").chmod(0o755)
    program = "import subprocess, sys; sys.exit(subprocess.call(['./rank', sys.executable, '-m', 'dist_llm', 'runs']))"
    result = start(3, "-c", program).wait(60)
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert len(errors) == 1, result.stderr
    assert re.search(r"rank 1 on \S+: dist_llm's code \w{12} instead of \w{12}, arguments \[runs --more\]", errors[0])
    assert "Traceback" not in result.stderr
