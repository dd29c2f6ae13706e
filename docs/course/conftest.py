"""What the course shows is run as its reader would run it: page after page, each in a folder that has a trained run.

- A block of ``python`` with ``>>>`` is compared with what stands below, numbers to the digits that stand there; one
  without is run. One that begins with ``# File: NAME`` becomes that file.
- A block of ``console`` is run line by line (``$ ...``). Its words are compared, and not its figures: they are those of
  the machine that it was written on. ``...`` stands for anything.
"""

import doctest
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.evaluators.doctest import NUMBER, OutputChecker
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from tests.course.short_run import short_run

FLAGS = NUMBER | doctest.ELLIPSIS
FILE = re.compile(r"# File: (\S+)\n")
FIGURE = re.compile(r"[+-]?\d[\d,.]*(?:e[+-]?\d+)?")
COMMAND = re.compile(r"^\$ ((?:[^\\\n]|\\\n|\\.)*)\n((?:(?!\$ ).*\n?)*)", re.MULTILINE)  # and what it says
LIMIT_S = 240


class Python(PythonCodeBlockParser):
    """Blocks of Python, of which some are files."""

    def __init__(self) -> None:
        super().__init__(doctest_optionflags=FLAGS)
        run = self.codeblock_parser._evaluator

        def evaluate(example: Example) -> str | None:
            if found := FILE.match(example.parsed):
                Path(found[1]).write_text(example.parsed)
                return None
            return run(example)

        self.codeblock_parser._evaluator = evaluate


def run_console(example: Example) -> str | None:
    """Run the commands of a block and compare what they say."""
    for command, wanted in COMMAND.findall(example.parsed):
        result = subprocess.run(
            command, shell=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S
        )
        if result.returncode:
            return f"{command} ends with status {result.returncode}:\n{result.stdout}"
        words = [FIGURE.sub("0", text) for text in (wanted, result.stdout)]
        if wanted.strip() and not OutputChecker().check_output(*words, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE):
            return f"{command} says\n{result.stdout}and not\n{wanted}"
    return None


@pytest.fixture(scope="module")
def reader() -> Iterator[None]:
    """Be in a new folder, with the run, and find the commands."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PATH", path)
        Path("runs").mkdir()
        Path("runs/run-001").symlink_to(short_run())
        yield


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave the course out of what ranks do together."""
    return True if config.getoption("--with-mpi") else None


pytest_collect_file = Sybil(
    parsers=[Python(), CodeBlockParser("console", run_console)], patterns=["*.md"], fixtures=["reader"]
).pytest()
