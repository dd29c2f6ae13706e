"""A watchdog on every rank: a rank that hangs, is frozen or has left without a word costs seconds, not the night.

MPI waits for ever for a rank that does not come, and so would all the others. So a thread of each rank looks around, a
few times a second. The ranks of a host share a table in memory, with a row each, where it counts its looks; and they
stand in a ring, in which each watches over the next one:

    it is stopped (kill -STOP), or does not look around any more: it is killed, after it has printed its stack
    it is not there any more, and has not said that it ends (os._exit): the job is ended
    this rank itself is in a phase for far longer than that phase has ever taken: it prints its stack, and is ended

A phase is a step, an evaluation, whatever `phase` is told; between phases nothing is limited. A rank that only waits
for others is given as long again, for the one that is to blame to speak first. Where the ranks survive a death
(`Comm.survives`), a killed one is a loss like another, and else the end of the job.

Time is counted by looks: that of a job that was suspended as a whole, or of a machine that slept, does not pass.
"""

import contextlib
import ctypes
import faulthandler
import mmap
import os
import platform
import signal
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dist_llm.parallel.comm import Comm
from dist_llm.parallel.hosts import first_of_host

LOOK_S = 0.25
STOPPED_S = 3.0  # a rank that is stopped for longer is given up
SILENT_S = 60.0  # and so is one that does not look around: it hangs in the kernel, or holds Python's lock
GONE_S = 2.0  # after a rank's death, for the launcher to act first
FORGOTTEN_S = 0.75  # after which a rank that waits in MPI should know of a death
UNNOTICED_S = 5.0  # after which it will not, whatever is done
LEAST_LIMIT_S = 120.0
TIMES_LONGEST = 20  # of a phase: it may take so many times as long as it has ever taken

STACK_S = 0.02  # in which a rank that has begun to write its stack is done
MOST_STACK_BYTES = 1 << 16

ROW = np.dtype([("pid", np.int64), ("looks", np.int64), ("ended", np.int64), ("stack", np.int64)])


class Watchdog:
    """Watches over this rank and the next one of its host; made on all ranks, collectively.

    Parameters
    ----------
    comm : Comm

    Attributes
    ----------
    timeout_s : float
        Limit of a phase; 0 for one that comes from what the phase has taken so far.
    """

    def __init__(self, comm: Comm) -> None:
        self.timeout_s = 0.0
        self._comm, self._name = comm, f"[rank {comm.rank} {platform.node()}]"
        first = first_of_host(comm)
        self._ranks = [rank for rank in range(comm.size) if first[rank] == first[comm.rank]]
        self._me = self._ranks.index(comm.rank)
        self._table = _shared_table(comm, self._ranks)
        # Whoever watches over this rank asks for its stack so. It is written to memory that the other reads: what a
        # rank says in its last moment, a launcher may lose. Where the others survive, it dies on the spot.
        stack = os.memfd_create("stack", os.MFD_CLOEXEC) if sys.platform == "linux" else 2
        faulthandler.register(signal.SIGUSR2, file=stack, chain=comm.survives)
        self._table[self._me] = (os.getpid(), 0, 0, stack)
        comm.allgather(None)  # now every row is there
        ring = [*range(self._me + 1, len(self._ranks)), *range(self._me)]
        # Of ranks in other containers nothing can be seen.
        self._others = [row for row in ring if _state(int(self._table["pid"][row])) != "gone"]
        self._next = -1  # row of the rank that is watched
        self._state, self._looks, self._bad_s = "alive", 0, 0.0  # how it is, and for how long not well
        self._phase, self._since_s, self._limit_s = "", 0.0, 0.0
        self._longest_s: dict[str, float] = {}
        self._lived_s = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def phase(self, name: str, limit_s: float = 0.0) -> Iterator[None]:
        """Limit the time of a ``with`` block: to `limit_s`, or to what `timeout_s` or earlier ones say."""
        self._limit_s = limit_s
        began_s = self._since_s = self._lived_s
        self._phase = name
        try:
            yield
        finally:
            self._phase = ""
        self._longest_s[name] = max(self._lived_s - began_s, LOOK_S, self._longest_s.get(name, 0.0))

    def close(self) -> None:
        """Tell the others that this rank ends as it should, and stop looking."""
        self._table["ended"][self._me] = 1
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        looked_s = time.monotonic()
        while not self._closed.wait(LOOK_S):
            now_s = time.monotonic()
            passed_s, looked_s = min(now_s - looked_s, 2 * LOOK_S), now_s
            self._lived_s += passed_s
            self._table["looks"][self._me] += 1
            self._look_at_next(passed_s)
            self._look_at_phase()

    def _look_at_next(self, passed_s: float) -> None:
        while self._others and self._table["ended"][self._others[0]]:
            del self._others[0]
        if not self._others:
            return
        row = self._others[0]
        pid, looks, _, stack = self._table[row].tolist()
        state = _state(pid)
        well = state == "alive" and (looks != self._looks or row != self._next)
        self._bad_s = 0.0 if well or state != self._state or row != self._next else self._bad_s + passed_s
        self._next, self._state, self._looks = row, state, looks
        name = f"rank {self._ranks[row]} (process {pid})"
        if state == "gone":
            self._act_on_death(name)
        elif self._bad_s > (STOPPED_S if state == "stopped" else SILENT_S):
            what = "is stopped" if state == "stopped" else "does not answer"
            self._say(f"{name} {what}, for {self._bad_s:.0f} s now: killing it; it was in\n{_last_stack(pid, stack)}")
            time.sleep(2 * LOOK_S)  # or the launcher drops that
            _send(pid, signal.SIGKILL)

    def _act_on_death(self, name: str) -> None:
        """See to it that the death of the next rank becomes known."""
        # Where ranks survive one, MPI knows of it by a signal, and whoever waits is told, within some hundredths of a
        # second; but not of an exit, and now and then a rank is forgotten.
        waits_s = min(self._comm.waits_s, self._bad_s)
        if self._comm.survives and waits_s > FORGOTTEN_S:
            self._comm.revoke()
        if self._bad_s > GONE_S and (not self._comm.survives or waits_s > UNNOTICED_S):
            self._say(f"{name} has ended without a word: ending {'this rank' if self._comm.survives else 'the job'}")
            self._say(f"it waits in\n{self._stack()}")
            self._end_job()

    def _stack(self) -> str:
        """Return where the main thread is."""
        frame = sys._current_frames()[threading.main_thread().ident or 0]
        return "".join(traceback.format_stack(frame)).rstrip()

    def left_behind(self, ranks: list[int]) -> None:
        """Learn which ranks, by their first numbers, have died and are known to have."""
        self._others = [row for row in self._others if self._ranks[row] not in ranks]

    def _look_at_phase(self) -> None:
        name, longest_s = self._phase, self._longest_s.get(self._phase)
        limit_s = self.timeout_s or self._limit_s
        if not limit_s and longest_s:
            limit_s = max(LEAST_LIMIT_S, TIMES_LONGEST * longest_s)
        if not name or not limit_s:
            return
        taken_s, waits = self._lived_s - self._since_s, self._comm.waits_s > LOOK_S
        if taken_s > limit_s * (2 if waits else 1):
            what = "waits for other ranks" if waits else "hangs"
            self._say(f"{what} in a {name}, for {taken_s:.0f} s now: giving up; it was in\n{self._stack()}")
            self._end_job()

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"{self._name} {text}\n".encode(errors="replace"))

    def _end_job(self) -> None:
        # MPI may hold a lock that its Abort needs: a death by a signal ends the job too.
        threading.Timer(2.0, _send, (os.getpid(), signal.SIGKILL)).start()
        time.sleep(2 * LOOK_S)  # or the launcher drops what has just been said
        self._comm.abort(1)


def _shared_table(comm: Comm, ranks: list[int]) -> np.ndarray:
    """Return a table that the ranks of this host share, in memory alone; collective over all ranks."""
    size, path, name, descriptor = len(ranks) * ROW.itemsize, "", f"dist_llm-{uuid.uuid4().hex}", -1
    if ranks[0] == comm.rank:
        if sys.platform == "linux":  # memory without a path of its own, which is gone with its processes
            descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
            path = f"/proc/{os.getpid()}/fd/{descriptor}"
        else:
            descriptor, path = tempfile.mkstemp(prefix=name)
        os.ftruncate(descriptor, size)
    theirs, its_name = comm.allgather((path, name))[ranks[0]]
    if not path and (sys.platform != "linux" or _links_to(theirs, its_name)):
        with contextlib.suppress(OSError):
            descriptor = os.open(theirs, os.O_RDWR | os.O_CLOEXEC)
    # A rank in another container, where that path is missing or another file's, is by itself.
    memory = mmap.mmap(descriptor, size)
    comm.allgather(None)  # all have opened it
    if descriptor >= 0:
        os.close(descriptor)
    if path and sys.platform != "linux":
        os.unlink(path)
    return np.frombuffer(memory, ROW)


def _links_to(path: str, name: str) -> bool:
    """Whether a path below /proc leads to the memory of this name: its numbers may mean other things elsewhere."""
    try:
        return os.readlink(path).startswith(f"/memfd:{name}")
    except OSError:
        return False


def _last_stack(pid: int, descriptor: int) -> str:
    """Let a process write its stack to its descriptor, and stand still; return what it has written."""
    with contextlib.ExitStack() as opened:
        file = None
        with contextlib.suppress(OSError):
            file = opened.enter_context(open(f"/proc/{pid}/fd/{descriptor}", "rb"))
        _send_main_thread(pid, signal.SIGUSR2)
        _send(pid, signal.SIGCONT)  # it wakes up for that
        deadline_s = time.monotonic() + 2 * LOOK_S
        while file and not file.read(1) and time.monotonic() < deadline_s:
            time.sleep(0.001)
        time.sleep(STACK_S)
        _send(pid, signal.SIGSTOP)
        if file is None:
            return ""
        file.seek(0)
        return file.read(MOST_STACK_BYTES).decode(errors="replace").rstrip()


def _state(pid: int) -> str:
    """Return what a process does: "alive", "stopped" or "gone"."""
    if sys.platform != "linux":
        return "alive" if pid and _send(pid, 0) else "gone"
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "gone"
    return {"T": "stopped", "t": "stopped", "Z": "gone", "X": "gone"}.get(after_name[0], "alive")


def _send_main_thread(pid: int, number: int) -> None:
    """Send a signal that another thread must not take: the main thread would go on while that one tells its stack."""
    if sys.platform == "linux" and (tgkill := getattr(ctypes.CDLL(None), "tgkill", None)):
        tgkill(pid, pid, int(number))
    else:
        _send(pid, number)


def _send(pid: int, number: int) -> bool:
    with contextlib.suppress(OSError):
        os.kill(pid, number)
        return True
    return False
