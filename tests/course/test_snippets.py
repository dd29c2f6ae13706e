"""The course's snippets are compared in earnest: what is not as it stands in the page is told."""

from types import SimpleNamespace

import pytest

from docs.course.conftest import run_console


def said(block: str) -> str | None:
    return run_console(SimpleNamespace(parsed=block))


@pytest.mark.parametrize(
    "block",
    [
        "$ echo one; echo two\none\ntwo\n",
        "$ echo one\n$ echo two\ntwo\n",
        "$ echo one \\\n      two\none two\n",
        "$ echo took 1,234.5 ms\ntook 67 ms\n",
        "$ echo one two three\none ... three\n",
    ],
)
def test_what_is_as_it_stands(block: str):
    assert said(block) is None


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("$ echo two\none\n", "echo two says\ntwo\nand not\none\n"),
        ("$ echo one\none\n$ echo two\none\n", "echo two says"),
        ("$ echo one; exit 3\none\n", "ends with status 3:\none\n"),
        ("$ echo one; exit 3\n", "ends with status 3"),
    ],
)
def test_what_is_not(block: str, told: str):
    assert told in (said(block) or "")
