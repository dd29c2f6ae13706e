"""The hosts that ranks are started on: how they are named, and which of them still answer."""

import re
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dist_llm.errors import UserError

ANSWER_S = 10.0  # a host that takes longer to say that it is there does not answer
WATCH_INTERVAL_S = 10.0


@dataclass(frozen=True)
class Host:
    """A host, and how many ranks it takes."""

    name: str
    ranks: int


def parse_hosts(text: str) -> list[Host]:
    """Return the hosts of ``ada:4,grace:4``; without a number a host takes one rank.

    Raises
    ------
    UserError
    """
    hosts = []
    for word in text.split(","):
        found = re.fullmatch(r"([\w.-]+)(?::([1-9]\d{0,5}))?", word.strip())
        if not found:
            raise UserError(f"--host takes NAME:RANKS,NAME:RANKS, not {text!r}")
        hosts.append(Host(found[1], int(found[2] or 1)))
    return hosts


def read_hostfile(path: Path) -> list[Host]:
    """Return the hosts of a file: a line each, ``ada slots=4`` as for Open MPI or ``ada:4`` as for MPICH.

    Raises
    ------
    UserError
        It cannot be read, or a line is of neither form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--hostfile: cannot read {path}: {error}") from error
    hosts = []
    for number, line in enumerate(lines, 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        found = re.fullmatch(r"([\w.-]+)(?:(?::|\s+slots\s*=\s*)([1-9]\d{0,5}))?", entry)
        if not found:
            raise UserError(f"{path}, line {number}: NAME slots=RANKS or NAME:RANKS is expected, not {entry!r}")
        hosts.append(Host(found[1], int(found[2] or 1)))
    if not hosts:
        raise UserError(f"{path} names no host")
    return hosts


def answering(hosts: Sequence[Host], remote_shell: Sequence[str]) -> list[Host]:
    """Return the hosts on which the remote shell can run a command now; this one always can.

    Parameters
    ----------
    remote_shell : sequence of str
        ``ssh``, or what is used in its place.
    """
    here = {"localhost", socket.gethostname(), socket.gethostname().partition(".")[0]}
    asked = {
        name: subprocess.Popen(
            [*remote_shell, name, "true"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )
        for name in {host.name for host in hosts} - here
    }  # fmt: skip
    end_s = time.monotonic() + ANSWER_S
    answered = here
    for name, process in asked.items():
        try:
            if process.wait(max(0.0, end_s - time.monotonic())) == 0:
                answered.add(name)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return [host for host in hosts if host.name in answered]


class HostWatch:
    """Asks hosts, again and again within a ``with`` block, whether they are there.

    A cut link or a host without power says nothing: TCP waits a quarter of an hour for it, and a rank that only
    receives waits for ever.

    Attributes
    ----------
    lost : str
        Names of the hosts that have not answered twice in a row, which takes at most 40 s; "" as long as all do.
    """

    def __init__(self, hosts: Sequence[Host], remote_shell: Sequence[str]) -> None:
        self._hosts, self._shell = hosts, remote_shell
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hosts", daemon=True)
        self.lost = ""

    def __enter__(self) -> "HostWatch":
        if self._hosts:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        silent: set[Host] = set()
        while not self._ended.wait(WATCH_INTERVAL_S):
            before, silent = silent, set(self._hosts) - set(answering(self._hosts, self._shell))
            self.lost = ", ".join(sorted(host.name for host in silent & before))
