"""Instructions and cycles of this process as the processor counts them: those of all its threads, in user space.

They come from Linux's perf_event_open(2), called by ctypes. An event belongs to one thread, so each thread that there
is gets its own; `inherit` adds the threads and processes that it starts later. The two events of a thread are a group
and count at the same times, so that their ratio, instructions per cycle, is one of the same work. Where others want the
processor's few counters too, the kernel takes turns, and says how long an event was enabled and how long it ran:

    count = value x time enabled / time running

A thread that waits by asking again and again, as in MPI and in a BLAS, counts too: useful instructions are those that
are counted where nothing waits.
"""

import ctypes
import errno
import fcntl
import os
import platform
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from dist_llm.parallel.cores import ROOT

SYSTEM_CALLS = {"x86_64": 298, "aarch64": 241, "riscv64": 241}  # the number of perf_event_open
Event = tuple[int, int]  # type and number
INSTRUCTIONS, CYCLES = (0, 1), (0, 0)  # of the type hardware
# The first version of struct perf_event_attr, which all kernels take.
ATTRIBUTES = struct.Struct("=IIQQQQQIIQ")  # type, size, number, period, sample type, read format, flags, three unused
READ_FORMAT, EVENT_BYTES = 1 << 0 | 1 << 1, 24  # value, time enabled, time running
DISABLED, FLAGS = 1 << 0, 1 << 1 | 1 << 5 | 1 << 6  # inherit, exclude kernel, exclude hypervisor
ANY_CPU, NO_LEADER, CLOSE_ON_EXEC = -1, -1, 8
ENABLE, WHOLE_GROUP = 0x2400, 1


@dataclass(frozen=True)
class HardwareCounts:
    """What was counted, and in which share of the threads' time; the rest is extrapolated.

    A processor with two kinds of cores counts on one kind only.
    """

    instructions: float
    cycles: float
    counted_share: float


class HardwareCounters:
    """Counters of the threads that there are when it is made; they are closed at the end of a ``with`` block.

    Where they cannot be had, nothing is counted, and `counts` says why.
    """

    def __init__(self, first: Event = INSTRUCTIONS, second: Event = CYCLES) -> None:
        self._files: list[int] = []  # of the first thread's two events, the second thread's, ...
        self._why_not = ""
        try:
            for thread in map(int, os.listdir("/proc/self/task") if sys.platform == "linux" else [0]):
                self._open(thread, first, second)
        except OSError as error:
            self._close()
            self._why_not = why_not(error.errno)
        for leader in self._files[::2]:  # a second event that came to a group at work would not count
            fcntl.ioctl(leader, ENABLE, WHOLE_GROUP)
        self._used = np.zeros_like(self._read())

    def _open(self, thread: int, first: Event, second: Event) -> None:
        try:
            self._files.append(_perf_event_open(first, FLAGS | DISABLED, thread, NO_LEADER))
            self._files.append(_perf_event_open(second, FLAGS, thread, self._files[-1]))
        except ProcessLookupError:  # the thread has just ended
            self._close(len(self._files) // 2 * 2)

    def _close(self, keep: int = 0) -> None:
        while len(self._files) > keep:
            os.close(self._files.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is done in a ``with`` block, in addition to what was counted before."""
        before = self._read()
        yield
        self._used += self._read() - before

    def _read(self) -> np.ndarray:
        """Return (threads, 2, 3) integers: of both events of a thread, value, time enabled and time running."""
        data = b"".join(os.read(file, EVENT_BYTES) for file in self._files)
        return np.frombuffer(data, np.int64).reshape(-1, 2, 3)

    @property
    def counts(self) -> HardwareCounts | str:
        """What was counted so far or, in words, why nothing was."""
        return self._why_not or scaled(self._used)


def scaled(used: np.ndarray) -> HardwareCounts | str:
    """Return the counts of all threads, (threads, 2, 3) as they were read, or, in words, why there are none."""
    value, enabled, running = np.moveaxis(used.astype(float), -1, 0)
    if not running.any():
        return "the processor's counters did not run: others had taken them, or there was nothing to count"
    instructions, cycles = np.sum(value * enabled / np.maximum(running, 1), axis=0)
    return HardwareCounts(float(instructions), float(cycles), float(running.sum() / enabled.sum()))


def _perf_event_open(event: Event, flags: int, thread: int, leader: int) -> int:
    call = SYSTEM_CALLS.get(platform.machine()) if sys.platform == "linux" and sys.maxsize > 2**32 else None
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    kind, number = event
    attributes = ATTRIBUTES.pack(kind, ATTRIBUTES.size, number, 0, 0, READ_FORMAT, flags, 0, 0, 0)
    numbers = (ctypes.c_long(n) for n in (thread, ANY_CPU, leader, CLOSE_ON_EXEC))
    libc = ctypes.CDLL(None, use_errno=True)
    file = int(libc.syscall(ctypes.c_long(call), ctypes.create_string_buffer(attributes), *numbers))
    if file < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return file


def why_not(number: int | None, root: Path = ROOT) -> str:
    """Return in one line what an error of perf_event_open means, and what helps."""
    if number in (errno.EACCES, errno.EPERM):
        paranoid = int((root / "proc/sys/kernel/perf_event_paranoid").read_text())
        if paranoid > 2:
            return f"kernel.perf_event_paranoid is {paranoid}: as root, sysctl kernel.perf_event_paranoid=2 allows it"
        return "forbidden, as in many containers: the capability PERFMON allows it (--cap-add PERFMON)"
    return {
        errno.ENOENT: "the kernel finds no hardware counters; virtual machines often have none",
        errno.ENOSYS: f"no perf_event_open that we know on {platform.system()} {platform.machine()}",
        errno.EMFILE: "two counters a thread are more files than may be open: raise ulimit -n",
    }.get(number or 0, os.strerror(number or 0))
