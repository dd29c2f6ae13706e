"""One start of an MPI launcher: its signals, its limit, and its end without leftovers.

The launcher (mpirun, srun) is in a session of its own, so a signal reaches the ranks only as `Stop` wants it. The first
one asks: SIGUSR1, which Open MPI's mpirun, MPICH's and Slurm's srun all hand on and none of them answers by killing;
the ranks finish a step, save and end. A second one, or the end of their time to do so, tells: SIGTERM, then SIGKILL to
whatever is left.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence

import psutil

from dist_llm.interrupts import SIGNALS
from dist_llm.launching.help_messages import HelpMessages

SAME_WISH_S = 1.0  # some tools signal twice (`timeout`: its child, then its process group); that is one wish
TERM_PATIENCE_S = 3.0  # from SIGTERM to another, and from that to SIGKILL
ORPHAN_PATIENCE_S = 2.0  # what the launcher leaves behind may be about to end by itself
LOOK_INTERVAL_S = 0.2
PR_SET_CHILD_SUBREAPER = 36  # from Linux's prctl.h
# A program that asks Linux for SIGTERM (15) at the death of its parent (PR_SET_PDEATHSIG, 1), and becomes the launcher,
# which is so ended even if this process is killed. Code between fork and exec would not be safe with threads.
END_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execvp(sys.argv[1], sys.argv[1:])"


def say(text: str) -> None:
    """Write a line to stderr."""
    with contextlib.suppress(OSError):  # after a HUP there may be no terminal to write to
        print(f"launch: {text}", file=sys.stderr, flush=True)


class Stop:
    """The user's or the scheduler's wish to stop, as it comes by signals within a ``with`` block.

    Attributes
    ----------
    asked_s, told_s : float or None
        When (`time.monotonic`) the first signal came, and a later one that is not the same wish.
    """

    def __init__(self) -> None:
        self.asked_s: float | None = None
        self.told_s: float | None = None

    def _receive(self, number: int, frame: types.FrameType | None) -> None:
        now_s = time.monotonic()
        if self.asked_s is None:
            self.asked_s = now_s
        elif number in (signal.SIGINT, signal.SIGTERM) and now_s - self.asked_s > SAME_WISH_S:
            self.told_s = self.told_s or now_s

    @contextlib.contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Listen for the signals that are not ignored (nohup sets SIGHUP to be ignored, and means it)."""
        previous = {n: handler for n in SIGNALS if (handler := signal.getsignal(n)) != signal.SIG_IGN}
        try:
            for number in previous:
                signal.signal(number, self._receive)
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def sleep(self, seconds: float) -> None:
        """Sleep, or until the wish comes."""
        end_s = time.monotonic() + seconds
        while self.asked_s is None and (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, LOOK_INTERVAL_S))


def run_job(
    command: Sequence[str], environment: Mapping[str, str], stop: Stop, grace_s: float, fault: Callable[[], str] = str
) -> int:
    """Start a launcher, wait for its end, and return its exit status as a shell would give it.

    Parameters
    ----------
    command : sequence of str
    environment : mapping
        Of the launcher.
    stop : Stop
        Is looked at all the time.
    grace_s : float
        Seconds that the ranks have to end after they were asked to.
    fault : callable
        Is asked all the time, and returns why the job cannot go on, or "".
    """
    _adopt_orphans()
    ends_with_us = [sys.executable, "-I", "-S", "-c", END_WITH_PARENT] if sys.platform == "linux" else []
    process = subprocess.Popen(
        [*ends_with_us, *command], env=dict(environment), stderr=subprocess.PIPE, start_new_session=True
    )
    showing = threading.Thread(target=_show_errors, args=(process,), name="stderr", daemon=True)
    showing.start()
    asked = False
    try:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_INTERVAL_S)
            if reason := fault():
                say(f"{reason}: ending the ranks")
                break
            if stop.asked_s is None:
                continue
            if not asked:
                asked = True
                say("stopping: the ranks finish a step and save; once more to end them now")
                process.send_signal(signal.SIGUSR1)
            elif stop.told_s is not None:
                say("ending the ranks")
                break
            elif time.monotonic() - stop.asked_s > grace_s:
                say(f"the ranks have not ended within {grace_s:g} s: ending them")
                break
    finally:
        status = _end(process)
        showing.join(TERM_PATIENCE_S)
    return status if status >= 0 else 128 - status


def _show_errors(process: subprocess.Popen[bytes]) -> None:
    """Hand on what the ranks and their launcher write to stderr."""
    assert process.stderr is not None
    messages = HelpMessages()
    with process.stderr as stderr, contextlib.suppress(OSError):  # nobody may be there to read it
        while data := os.read(stderr.fileno(), 1 << 16):
            _write_all(messages.feed(data))
        _write_all(messages.end())


def _write_all(data: bytes) -> None:
    while data:
        data = data[os.write(2, data) :]


def _end(process: subprocess.Popen[bytes]) -> int:
    """Leave no process below this one, whatever state the launcher is in; return its status."""
    for _ in range(2):  # our stand-in for mpirun takes the first for a question, as a run that is asked to stop does
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(TERM_PATIENCE_S)
    left = psutil.Process().children(recursive=True)
    if process.poll() is not None:
        _, left = psutil.wait_procs(left, ORPHAN_PATIENCE_S)
    for orphan in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            orphan.kill()
    with contextlib.suppress(ProcessLookupError):  # where orphans are not adopted
        os.killpg(process.pid, signal.SIGKILL)
    psutil.wait_procs(left, TERM_PATIENCE_S)
    return process.wait()


def _adopt_orphans() -> None:
    """Become, on Linux, the parent of all processes below this one whose parents end, so as to find and end them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
