"""Network namespaces as hosts: each has an address, a host name and a /dev/shm of its own, as MPI libraries want it."""

import itertools
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

# In the manner of ssh: [OPTIONS] HOST COMMAND. Open MPI and MPICH take a host of another name for another machine.
SHELL = """#!/bin/bash
while [[ $1 == -* ]]; do case $1 in -o | -p | -l) shift 2 ;; *) shift ;; esac; done
host=$1; shift
ip -n "$host" link show dev eth0 up 2>/dev/null | grep -q eth0 || exit 255 # as ssh, where nobody answers
exec ip netns exec "$host" unshare --uts --ipc --mount --propagation private bash -c '
    hostname "$1"; mount --bind "$2" /etc/hosts; mount -t tmpfs tmpfs /dev/shm; cd "$3"; shift 3; exec bash -c "$*"
' shell "$host" "{hosts}" "$PWD" "$@"
"""

COUNT = itertools.count()


@dataclass(frozen=True)
class Hosts:
    """Hosts that are up, and the program that runs commands on them."""

    names: list[str]
    shell: Path

    def lose(self, name: str) -> None:
        """Let a host vanish, with all that runs on it: no process of it says goodbye."""
        self.cut(name)
        for pid in _ip("netns", "pids", name).split():
            if psutil.pid_exists(int(pid)):
                os.kill(int(pid), 9)

    def cut(self, name: str) -> None:
        """Cut the link of a host."""
        _ip("-n", name, "link", "set", "eth0", "down")


def available() -> bool:
    """Whether namespaces can be made here: by root, with iproute2."""
    try:
        name = f"try-{os.getpid()}"
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@contextmanager
def hosts(folder: Path, number: int, rate: str = "") -> Iterator[Hosts]:
    """Bring up so many hosts on one bridge; `rate`, such as ``1gbit``, limits what each sends and receives."""
    ours = (8 * os.getpid() + next(COUNT)) % 10_000
    bridge, names = f"br{ours}", [f"host{n}-{ours}" for n in range(1, number + 1)]
    table, shell = folder / "hosts", folder / "shell"
    addresses = {name: f"10.{100 + ours % 100}.{ours // 100}.{n}" for n, name in enumerate(names, 1)}
    table.write_text("127.0.0.1 localhost\n" + "".join(f"{a} {name}\n" for name, a in addresses.items()))
    shell.write_text(SHELL.replace("{hosts}", str(table)))
    shell.chmod(0o755)
    try:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("link", "set", bridge, "up")
        for n, name in enumerate(names, 1):
            outside = f"v{ours}-{n}"
            _ip("netns", "add", name)
            _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", outside, "master", bridge, "up")
            _ip("-n", name, "addr", "add", f"{addresses[name]}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            if rate:
                for limit in (["ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "eth0"],
                              ["tc", "qdisc", "add", "dev", outside]):  # fmt: skip
                    _run([*limit, "root", "tbf", "rate", rate, "burst", "128kb", "latency", "50ms"])
        yield Hosts(names, shell)
    finally:
        for name in names:
            for pid in _ip("netns", "pids", name, check=False).split():
                if psutil.pid_exists(int(pid)):
                    os.kill(int(pid), 9)
            _ip("netns", "del", name, check=False)
        _ip("link", "del", bridge, check=False)


def _ip(*words: str, check: bool = True) -> str:
    return _run(["ip", *words], check)


def _run(words: Sequence[str], check: bool = True) -> str:
    return subprocess.run(words, check=check, capture_output=True, text=True).stdout
