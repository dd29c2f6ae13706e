import sys

import pytest

from dist_llm.data import progress as progress_module
from dist_llm.data.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: now[0])
    return now


def test_a_log_has_a_line_every_ten_seconds(clock, capfd):
    with Progress("encoding train", 300_000_000) as progress:
        progress.skip(100_000_000)
        for _ in range(40):
            clock[0] += 1
            progress.add(5_000_000)
    assert capfd.readouterr().err.splitlines() == [
        "encoding train: 50% of 300 MB, 5.0 MB/s, 30 s left",
        "encoding train: 67% of 300 MB, 5.0 MB/s, 20 s left",
        "encoding train: 83% of 300 MB, 5.0 MB/s, 10 s left",
        "encoding train: 100% of 300 MB, 5.0 MB/s, 0 s left",
    ]


def test_what_is_soon_done_leaves_no_line(clock, capfd):
    with Progress("reading", 10) as progress:
        clock[0] += 9
        progress.add(10)
    assert capfd.readouterr().err == ""


def test_nothing_is_shown_unless_asked_for(clock, capfd, monkeypatch):
    for on_terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda on=on_terminal: on)
        with Progress("reading", 10, shown=False) as progress:
            clock[0] += 100
            progress.add(10)
    assert capfd.readouterr().err == ""


def test_a_terminal_has_a_bar(capfd, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress("reading", 10) as progress:
        progress.add(10)
    assert "reading: 100%" in capfd.readouterr().err
