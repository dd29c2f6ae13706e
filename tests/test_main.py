"""The list of commands, and the way to each of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from dist_llm import __version__
from dist_llm.__main__ import COMMANDS, dispatch
from dist_llm.errors import UserError
from dist_llm.parallel.comm import SerialComm


@pytest.mark.parametrize("argv", [[], ["--help"], ["help"]])
def test_all_commands_are_listed(argv, capsys):
    assert dispatch(argv, SerialComm()) == 0
    out = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in out


def test_a_command_does_what_its_module_does(capsys):
    for name in COMMANDS:
        assert dispatch([name, "--help"], SerialComm()) == 0
        own = capsys.readouterr().out
        assert f"usage: python -m dist_llm.{name.replace('-', '_')} [" in own
        assert "\n\n    " in own.partition("usage:")[0], f"{name} --help begins with examples"


def test_its_version(capsys):
    assert dispatch(["--version"], SerialComm()) == 0
    assert capsys.readouterr().out == f"dist_llm {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "unknown command trian; did you mean train?"),
        (["xyz"], r"unknown command xyz \(known: train, prepare, evaluate"),
    ],
)
def test_an_unknown_command_is_one_line(argv, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        dispatch(argv, SerialComm())


def test_as_a_program(tmp_path):
    """Both ways to call it, from another folder."""
    for program in ([sys.executable, "-m", "dist_llm"], [Path(sys.executable).parent / "dist-llm"]):
        result = subprocess.run([*program, "generate", "nowhere"], cwd=tmp_path, capture_output=True, text=True)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == "error: there is no run folder nowhere\n"
