import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from dist_llm.measuring.machine import (
    CpuUsage,
    Disturbance,
    cpu_model,
    frequency_governor,
    look_around,
    look_at_machine,
)
from dist_llm.parallel.comm import SerialComm
from dist_llm.parallel.cores import affinity_mask
from dist_llm.parallel.placement import place

SPIN = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"


@pytest.fixture
def other_work():
    """A process that is busy all the time."""
    process = subprocess.Popen([sys.executable, "-c", SPIN])
    time.sleep(0.3)
    yield process
    process.kill()
    process.wait()


def test_other_work_is_seen_and_named_beforehand(other_work):
    cpus, processes = look_around(0.6)
    assert sum(cpus[cpu] for cpu in affinity_mask()) > 0.2
    assert other_work.pid in {process.pid for process in processes}
    assert next(p for p in processes if p.pid == other_work.pid).cores > 0.1


def cores_of_others(wait) -> float:
    """How many cores others had in a second, while this process waits in a way."""
    placement = place(SerialComm(), None)
    usage, start = CpuUsage(SerialComm(), placement), time.monotonic()
    while time.monotonic() < start + 1.0:
        wait()
    return usage.disturbance().other * (time.monotonic() - start) * len(placement.cores)


def test_other_work_is_seen_during_a_run_and_ones_own_is_not_counted(other_work):
    # Strangers may be at work too: what matters is that this process adds nothing when it is busy itself.
    idle, busy = cores_of_others(lambda: time.sleep(0.1)), cores_of_others(lambda: None)
    assert idle > 0.2  # at the least; less than a core where neighbours take the cores themselves
    assert 0.2 < busy < idle + 0.5


class Ranks(SerialComm):
    """Rank 0 of several, which say one after the other what stands in `answers`."""

    def __init__(self, *answers: list[Any]) -> None:
        super().__init__()
        self._answers = iter(answers)

    def allgather(self, value):
        return next(self._answers)


def test_shares_are_of_the_machine_where_it_is_worst():
    # Busy, stolen, of the rank itself, available: on one machine, two ranks had all that was used; on b, half of it.
    seconds = [np.array([2.0, 0, 1, 2])] * 2 + [np.array([2.0, 0.2, 1, 2])]
    usage = CpuUsage(Ranks(["a", "a", "b"], [(0,), (1,), (0,)], seconds), place(SerialComm(), None))
    assert usage.disturbance() == Disturbance(other=0.5, stolen=0.1)


def test_cpus_are_those_of_the_machines_ranks_whatever_their_host_is_called(monkeypatch):
    asked: list[object] = []
    comm = Ranks(["a", "b", "a"], [(0,), (1,), (2, 3)])
    monkeypatch.setattr(CpuUsage, "_read", lambda usage: asked.append(usage._cpus))
    CpuUsage(comm, place(SerialComm(), None))
    assert asked == [{0, 2, 3}]


def test_facts_of_a_machine(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n")
    assert cpu_model(tmp_path) == "Some CPU @ 3 GHz"
    assert cpu_model(tmp_path / "nowhere")
    assert frequency_governor(tmp_path) is None
    for cpu, governor in enumerate(("performance", "powersave", "powersave")):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(governor + "\n")
    assert frequency_governor(tmp_path) == "performance, powersave"


def test_this_machine():
    placement = place(SerialComm(), None)
    facts = look_at_machine(placement, 7)
    assert facts.usable_cores == 7
    assert facts.affinity == list(placement.cores)
    assert len(facts.busy_before) == len(placement.cores)
    assert all(0 <= share <= 1 for share in facts.busy_before)
    assert facts.memory_bytes > 1e8
    assert len(facts.load_average) == 3
