"""Locks on files: they hold until they are given back, or the process that has them ends, however it ends."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

LOOK_S = 0.02


@contextlib.contextmanager
def try_lock(path: Path, wait_s: float = 0.0) -> Iterator[bool]:
    """Try to hold a file, which is made if it is missing, within a ``with`` block; give whether that was possible.

    Parameters
    ----------
    wait_s : float
        How long to wait for a process that is dying.

    Raises
    ------
    OSError
        It cannot be opened, or is a link.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    try:
        yield _is_taken(descriptor, time.monotonic() + wait_s)
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int, deadline_s: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                return False
        time.sleep(LOOK_S)
