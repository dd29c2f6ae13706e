"""metrics.jsonl: read and cut a line at a time, and written as soon as that can be."""

import resource
import shutil
import signal
import tracemalloc
from pathlib import Path

import pytest

from dist_llm.training.metrics import MetricsLog, evaluations_since_best, read_metrics
from dist_llm.training.metrics_line import line_of

MANY = 20_000
ONE, TWO, THREE, FOUR = (line_of({"step": step}) for step in range(1, 5))


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.toml").touch()
    return tmp_path


def fill(run: Path, lines: int) -> None:
    """Write the metrics of so many steps, with an evaluation at each hundredth."""
    with (run / "metrics.jsonl").open("wb") as file:
        for step in range(1, lines + 1):
            record = {"step": step, "tokens": 10 * step, "loss": 1 + 1 / step, "lr": 0.001, "rss_bytes": [10**8] * 4}
            file.write(line_of(record | ({"val_loss": 2 + 1 / step} if step % 100 == 0 else {})))


def peak_bytes(function) -> int:
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_what_reads_long_metrics_takes_no_more_memory_than_a_line(run):
    fill(run, MANY)
    content = (run / "metrics.jsonl").read_bytes()
    assert len(content) > 2_000_000
    assert peak_bytes(lambda: evaluations_since_best(run, MANY)) < 200_000
    assert peak_bytes(lambda: MetricsLog(run, MANY - 1).close()) < 200_000
    assert (run / "metrics.jsonl").read_bytes() == content[: content.rindex(b"\n", 0, -1) + 1]


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (ONE + TWO + THREE + FOUR, ONE + TWO),
        (ONE + TWO, ONE + TWO),
        (ONE + b'{"st', ONE),
        (ONE + b'{"st\n' + TWO + THREE, ONE + b'{"st\n' + TWO),
        (THREE, b""),
        (b"", b""),
    ],
)
def test_what_lies_beyond_the_step_is_cut_off(run, content, kept):
    (run / "metrics.jsonl").write_bytes(content)
    metrics = MetricsLog(run, 2)
    metrics.write({"step": 3, "loss": 1.0})
    metrics.close()
    assert (run / "metrics.jsonl").read_bytes() == kept + line_of({"step": 3, "loss": 1.0})
    assert read_metrics(run)[-1] == {"step": 3, "loss": 1.0}


def test_a_full_disk_is_told_once_by_name_and_nothing_is_lost(run):
    said = []
    metrics = MetricsLog(run, 0, say=said.append)
    metrics.write({"step": 1, "loss": 1.0})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, limits[1]))
    try:
        for step in (2, 3):
            metrics.write({"step": step, "loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (told,) = said
    assert told.startswith(f"cannot write {run / 'metrics.jsonl'}: File too large; the run goes on")
    assert [record["step"] for record in read_metrics(run)] == [1]
    metrics.write({"step": 4, "loss": 1.0})
    metrics.close()
    assert [record["step"] for record in read_metrics(run)] == [1, 2, 3, 4]


def test_what_could_not_be_written_at_the_end_is_told(run):
    said = []
    metrics = MetricsLog(run, 0, say=said.append)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        metrics.write({"step": 1, "loss": 1.0})
        metrics.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert said[1:] == [f"the last records of {run / 'metrics.jsonl'} are not in it: File too large"]


def test_a_run_folder_that_is_gone_is_noticed(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").touch()
    metrics = MetricsLog(run, 0)
    metrics.write({"step": 1, "loss": 1.0})
    assert not metrics.is_in_vain
    shutil.rmtree(run)
    metrics.write({"step": 2, "loss": 1.0})
    metrics.close()
    assert metrics.is_in_vain
    assert not run.exists()
