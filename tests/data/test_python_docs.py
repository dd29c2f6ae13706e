"""The corpus that is on every machine: what is read of Python's own documentation."""

import gc
import inspect
import textwrap

import pytest

from dist_llm.config import DataConfig
from dist_llm.data import find_corpus, python_docs
from tests.data.spooled import read_corpus, write


@pytest.fixture(scope="module")
def docs() -> list[str]:
    return read_corpus(find_corpus(DataConfig())).documents


def test_python_docs_are_two_megabytes_of_pythons_own_words(docs):
    assert 1_500_000 < sum(map(len, docs)) < 6_000_000
    assert any('The "for" statement' in text for text in docs)
    modules = {text.split("\n", 1)[0]: text for text in docs}
    assert inspect.getdoc(textwrap.fill) in modules["textwrap"]
    assert "email" in modules
    assert "email.message" in modules
    assert not any(name.startswith(("idlelib", "test.", "site-packages")) for name in modules)


def test_python_docs_can_be_written_as_utf8(docs):
    for text in docs:
        assert text.encode("utf-8").strip()


def test_docstrings_come_in_the_order_of_the_source(tmp_path, monkeypatch):
    source = '''
        """Module."""
        if True:
            def f():
                """In an if.

                    Indented.
                """
                class Inner:
                    "Inside."
        else:
            async def g():
                """In an else."""
        try:
            pass
        except ValueError:
            def h(): "In an except."
        finally:
            def i(): "In a finally."
        match 1:
            case 1:
                def j(): "In a case."
        class C:
            r"""An invalid escape elsewhere."""
            x = "\\d"
            "not a docstring"
            def again(): "Module."
            def empty(): ""
            def half(): "a\\ud800b"
    '''
    library = tmp_path / "lib"
    write(library / "pkg" / "__init__.py", textwrap.dedent(source))
    write(library / "pkg" / "none.py", "x = 1\n")
    write(library / "pkg" / "later.py", '"Later."\ndef f(): "Inside."\n')
    write(library / "pkg" / "broken.py", '"No."\ndef (:\n')
    write(library / "pkg" / "tests" / "test.py", '"No."')
    write(library / "site-packages" / "other.py", '"No."')
    write(library / "first.py", '"First."\n')
    monkeypatch.setattr(python_docs.sysconfig, "get_path", lambda name: str(library))
    topics = python_docs.python_docs()
    documents = topics[-3:]
    assert not any("No." in text.splitlines() for text in topics)
    assert documents[0] == "first\n\nFirst."
    assert documents[1].split("\n\n") == [
        "pkg",
        "Module.",
        "In an if.",
        "Indented.",
        "Inside.",
        "In an else.",
        "In an except.",
        "In a finally.",
        "In a case.",
        "An invalid escape elsewhere.",
        "a?b",
    ]
    # "Inside." was said before.
    assert documents[2] == "pkg.later\n\nLater."


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(tmp_path, monkeypatch, enabled):
    monkeypatch.setattr(python_docs.sysconfig, "get_path", lambda name: str(tmp_path))
    try:
        if not enabled:
            gc.disable()
        python_docs.python_docs()
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
