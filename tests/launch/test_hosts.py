"""Training on several hosts, one of which is lost: network namespaces stand for them. Needs root and iproute2."""

import re
import time

import pytest

from dist_llm.training.end_mark import EndMark, read_end_mark
from tests.launch import namespaces

pytestmark = [pytest.mark.mpirun, pytest.mark.skipif(not namespaces.available(), reason="needs root and iproute2")]


@pytest.fixture
def hosts(tmp_path):
    with namespaces.hosts(tmp_path, 2) as hosts:
        yield hosts


@pytest.fixture
def launch(hosts, start, train_arguments):
    """Starts a training of two ranks on each host, from the first of them."""

    def launch(*more):
        names = ",".join(f"{name}:2" for name in hosts.names)
        words = ["-m", "dist_llm.launch", "--host", names, "--ssh", str(hosts.shell), "--restarts", "2", "--"]
        words += train_arguments("run", "--train.eval_interval=0", "--train.checkpoint_interval=10", *more)[2:]
        return start(0, *words, wrapper=[str(hosts.shell), hosts.names[0]])

    return launch


def wait_for_steps(run, steps):
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists() or (run / "metrics.jsonl").read_bytes().count(b"\n") < steps:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_ranks_of_two_hosts_train_together(launch, hosts, tmp_path):
    result = launch("--train.max_steps=5").wait()
    assert result.returncode == 0, result.stderr
    assert "ranks    4 on 2 hosts, 2 on each" in result.stdout
    # Of such links the kernel says that they have 10 Gbit/s.
    assert "chosen for 4 ranks on 2 hosts (10 Gbit/s Ethernet)" in result.stdout
    assert read_end_mark(tmp_path / "run") == EndMark("finished", 5, 5)


@pytest.mark.parametrize("fault", ["lose", "cut"])
def test_after_the_loss_of_a_host_the_run_goes_on_without_it(launch, hosts, tmp_path, fault):
    """A lost host's processes are gone; a cut link alone is noticed by the launcher's own questions."""
    job = launch("--train.max_steps=100")
    wait_for_steps(tmp_path / "run", 25)
    started = time.monotonic()
    getattr(hosts, fault)(hosts.names[1])
    result = job.wait(120)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("launch: ")]
    assert f"launch: left out, as it does not answer: {hosts.names[1]}" in lines
    assert f"launch: 2 ranks on {hosts.names[0]}: run" in lines
    if fault == "cut":
        assert f"launch: no answer from {hosts.names[1]}: ending the ranks" in lines
    assert re.search(r"launch: continuing from run/checkpoints/step-\d+", result.stderr)
    assert read_end_mark(tmp_path / "run") == EndMark("finished", 100, 100)
    assert time.monotonic() - started < 100
