import errno
import mmap
import os
import platform
import re
import resource
import struct
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest

from dist_llm.measuring import hardware_counters
from dist_llm.measuring.hardware_counters import HardwareCounters, HardwareCounts, scaled, why_not

# Events that the kernel counts itself, whatever the processor: page faults, of which one knows how many there must be,
# nanoseconds on a CPU, and, in kernel space, switches to other threads. They are counted in place of instructions and
# cycles.
FAULTS, CLOCK, SWITCHES = (1, 2), (1, 1), (1, 3)
NO_EVENT = (1, 999)
PAGES = 1000
FEW = 100  # page faults of Python's own


def touch_pages():
    """Cause PAGES page faults."""
    memory = mmap.mmap(-1, PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(AttributeError, OSError):  # a kernel that has no huge pages
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    for page in range(PAGES):
        memory[page * mmap.PAGESIZE] = 1
    memory.close()


class Worker:
    """A thread that touches pages when it is told to."""

    def __init__(self):
        self._go = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        self.id = self._thread.native_id

    def _work(self):
        self._go.wait()
        touch_pages()

    def work(self):
        self._go.set()
        self._thread.join()


@pytest.fixture
def worker():
    """A thread that is there before the counters."""
    worker = Worker()
    yield worker
    worker.work()


@pytest.fixture
def counters(worker):
    with HardwareCounters(FAULTS, CLOCK) as counters:
        if re.search("no perf_event_open|perf_event_paranoid|PERFMON", str(counters.counts)):
            pytest.skip(counters.counts)
        yield counters


def assert_touched(times, counters):
    assert times * PAGES <= counters.counts.instructions < times * PAGES + FEW
    assert counters.counts.counted_share == 1


def open_files():
    """The numbers of all open files, and what they are."""
    files = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing
            files[int(number)] = os.readlink(f"/proc/self/fd/{number}")
    return files


def test_what_is_done_in_the_blocks_is_counted(counters):
    touch_pages()
    with counters.counting():
        touch_pages()
    touch_pages()
    assert_touched(1, counters)
    with counters.counting():
        touch_pages()
        touch_pages()
    assert_touched(3, counters)


def test_threads_that_are_there_already(worker, counters):
    with counters.counting():
        worker.work()
        touch_pages()
    assert_touched(2, counters)


def test_threads_that_come_later(counters):
    with counters.counting():
        workers = [Worker() for _ in range(3)]
        workers[0].work()
        workers[1].work()
    workers[2].work()
    assert_touched(2, counters)


def test_a_thread_that_has_ended(worker, counters):
    with counters.counting():
        worker.work()
    with counters.counting():
        touch_pages()
    assert_touched(2, counters)


@pytest.mark.parametrize("event", [FAULTS, CLOCK])
def test_a_thread_that_ends_while_its_events_are_opened(event, worker, counters, monkeypatch):
    gone, perf_event_open = worker.id, hardware_counters._perf_event_open

    def open_or_miss(asked, flags, thread, leader):
        if (asked, thread) == (event, gone):
            raise ProcessLookupError(errno.ESRCH, "No such process")
        return perf_event_open(asked, flags, thread, leader)

    monkeypatch.setattr(hardware_counters, "_perf_event_open", open_or_miss)
    before = open_files()
    with HardwareCounters(FAULTS, CLOCK) as others:
        with others.counting():
            worker.work()
            touch_pages()
        assert_touched(1, others)
    assert open_files() == before


def test_both_events_of_a_group_count_and_in_their_order(counters):
    with HardwareCounters(CLOCK, FAULTS) as turned, turned.counting(), counters.counting():
        touch_pages()
    assert turned.counts.counted_share == counters.counts.counted_share == 1
    assert PAGES <= turned.counts.cycles < PAGES + FEW
    assert turned.counts.instructions > counters.counts.cycles > 10 * PAGES  # no page fault takes but 10 ns


def test_what_the_kernel_does_is_not_counted(worker, counters):
    with HardwareCounters(FAULTS, SWITCHES) as others, others.counting():
        worker.work()  # this thread sleeps meanwhile
    assert_touched(1, others)
    assert others.counts.cycles == 0


def test_no_file_is_left_open_or_handed_to_other_programs(counters):
    before = open_files()
    with HardwareCounters(FAULTS, CLOCK):
        opened = open_files().keys() - before.keys()
        assert len(opened) >= 4  # two events of two threads at least
        assert not any(map(os.get_inheritable, opened))
    assert open_files() == before
    with HardwareCounters(FAULTS, NO_EVENT) as others:  # the first one is open when the second one fails
        assert open_files() == before
    assert isinstance(others.counts, str)


def test_too_few_files(counters):
    limits, taken = resource.getrlimit(resource.RLIMIT_NOFILE), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_files()) + 5, limits[1]))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(3):  # of the four that two threads need
            os.close(taken.pop())
        before = open_files()
        others = HardwareCounters(FAULTS, CLOCK)
        assert open_files() == before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for file in taken:
            os.close(file)
    assert "ulimit -n" in others.counts


def test_bytes_as_the_kernel_gives_them():
    before, after = (1000, 50, 50, 600, 50, 50), (2**40 + 1000, 90, 70, 2**33 + 600, 90, 70)
    with HardwareCounters(NO_EVENT, NO_EVENT) as counters:
        counters._why_not, counters._used = "", np.zeros((1, 2, 3), np.int64)
        for event in (slice(0, 3), slice(3, 6)):
            reader, writer = os.pipe()
            os.write(writer, struct.pack("=6Q", *before[event], *after[event]))
            os.close(writer)
            counters._files.append(reader)
        with counters.counting():
            pass
    assert counters.counts == HardwareCounts(instructions=2.0**41, cycles=2.0**34, counted_share=0.5)


def test_counts_of_threads_are_scaled_and_added():
    used = np.array(
        [
            [[6_000, 10, 10], [2_000, 10, 10]],  # counted all the time
            [[1_000, 40, 10], [500, 40, 10]],  # a quarter of it
            [[0, 0, 0], [0, 0, 0]],  # asleep
            [[0, 50, 0], [0, 50, 0]],  # at work, and never counted
        ]
    )
    assert scaled(used) == HardwareCounts(instructions=10_000, cycles=4_000, counted_share=0.2)


def test_counters_that_never_ran_give_no_figures():
    for used in (np.zeros((0, 2, 3), int), np.zeros((3, 2, 3), int), np.array([[[0, 9, 0], [0, 9, 0]]])):
        assert "did not run" in scaled(used)


def test_why_not(tmp_path):
    paranoid = tmp_path / "proc/sys/kernel/perf_event_paranoid"
    paranoid.parent.mkdir(parents=True)
    for error in (errno.EACCES, errno.EPERM):
        paranoid.write_text("4\n")
        assert why_not(error, tmp_path).startswith("kernel.perf_event_paranoid is 4: as root, sysctl")
        paranoid.write_text("2\n")
        assert "--cap-add PERFMON" in why_not(error, tmp_path)
    assert "virtual machines" in why_not(errno.ENOENT)
    assert why_not(errno.E2BIG) == os.strerror(errno.E2BIG)


@pytest.mark.parametrize(("module", "name", "value"), [(platform, "machine", lambda: "mips"), (sys, "platform", "aix")])
def test_where_the_system_call_is_not_known(module, name, value, monkeypatch):
    monkeypatch.setattr(module, name, value)
    with HardwareCounters() as counters, counters.counting():
        touch_pages()
    assert counters.counts.startswith("no perf_event_open that we know on ")


def test_this_machine():
    with HardwareCounters() as counters, counters.counting():
        sum(range(10**6))
    if isinstance(counters.counts, str):
        assert "\n" not in counters.counts
    else:
        assert counters.counts.instructions > 10**6
        assert 0.01 < counters.counts.instructions / counters.counts.cycles < 20
