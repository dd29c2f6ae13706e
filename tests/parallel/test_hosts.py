import platform
from pathlib import Path

import pytest

from dist_llm.parallel.comm import SerialComm
from dist_llm.parallel.hosts import first_of_host, first_of_machine


class Ranks(SerialComm):
    """Ranks that speak one after the other; each hears those before it, and itself."""

    def __init__(self) -> None:
        super().__init__()
        self._said: list[object] = []

    def allgather(self, value):
        self._said.append(value)
        return list(self._said)


def test_machines_of_the_same_name_are_different_hosts():
    class SameName(SerialComm):
        def allgather(self, value):
            return [value, (value[0], "another machine"), value]

    assert first_of_host(SameName()) == [0, 1, 0]


@pytest.mark.skipif(not Path("/proc/sys/kernel/random/boot_id").exists(), reason="only Linux tells")
def test_containers_are_different_hosts_on_the_same_machine(monkeypatch):
    hosts, machines = Ranks(), Ranks()
    for name in ("a container", "another"):
        monkeypatch.setattr(platform, "node", lambda name=name: name)
        found = first_of_host(hosts), first_of_machine(machines)
    assert found == ([0, 1], [0, 0])
