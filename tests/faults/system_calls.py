"""A layer between a program and its system calls, in which the n-th call goes wrong.

`outcome` runs a function in a forked process, whose calls that open files or change a disk (open, write, fsync, rename,
...) go through a `Disk`. There are no others: tensors, too, are written by our own code.
"""

import builtins
import contextlib
import errno
import io
import os
import stat
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FAULTS = (
    "input/output error",
    "full disk",
    "kill",
    "power cut",
    "power cut, names kept",
    "power cut, last folder kept",
)
THROUGH, FAULTY, CRASHED, BROKEN = 0, 3, 9, 1
REAL = {name: getattr(os, name) for name in ("open", "fsync", "rename", "replace", "unlink", "mkdir", "rmdir", "write")}
NEEDING_SPACE = ("open", "write", "fsync", "mkdir")


class Disk:
    """The calls of this process, the n-th of which goes wrong.

    Parameters
    ----------
    fault : str
        One of FAULTS. An error is that of one call; a full disk remains so; after a power cut, what was not synced is
        lost: the contents of files, and what has changed in folders (but for all of them, or the one changed last).
    n : int
        Counted from 1.
    grave : Path
        Folder for what is removed, on the same disk, so that a power cut can bring it back.
    """

    def __init__(self, fault: str, n: int, grave: Path) -> None:
        self.fault, self.n, self.grave = fault, n, grave
        self.calls = 0
        self._lock = threading.RLock()
        self._open = open
        self._durable: dict[tuple[int, int], tuple[int, int]] = {}  # of each file: a descriptor, bytes on the disk
        self._unsynced: list[tuple[tuple[int, int], Callable[[], None]]] = []  # changes of folders, and their undoing
        self._graves = 0

    @contextlib.contextmanager
    def call(self, name: str, before_the_end: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Make a call, or let it go wrong; one after the other."""
        with self._lock:
            self.calls += 1
            if self.calls == self.n:
                before_the_end()
            if self.calls >= self.n:
                if self.fault == "full disk" and name in NEEDING_SPACE:
                    raise OSError(errno.ENOSPC, "No space left on device")
                if self.calls == self.n and self.fault == "input/output error":
                    raise OSError(errno.EIO, "Input/output error")
                if self.fault.startswith("power cut"):
                    self._lose_what_is_not_synced()
                if self.fault.startswith(("power cut", "kill")):
                    os._exit(CRASHED)
            yield

    def _lose_what_is_not_synced(self) -> None:
        lost = [] if self.fault.endswith("names kept") else self._unsynced
        if self.fault.endswith("last folder kept"):
            lost = [change for change in self._unsynced if change[0] != self._unsynced[-1][0]]
        for _, undo in reversed(lost):
            undo()
        for descriptor, size in self._durable.values():
            os.ftruncate(descriptor, min(size, os.fstat(descriptor).st_size))

    def _changed(self, folder: int, undo: Callable[[], None]) -> None:
        self._unsynced.append((_identity(folder), undo))

    def _bury(self, folder: int, name: str) -> Callable[[], None]:
        self._graves += 1
        grave = str(self.grave / str(self._graves))
        REAL["rename"](name, grave, src_dir_fd=folder)
        return lambda: REAL["rename"](grave, name, dst_dir_fd=folder)

    def open_file(self, descriptor: int, path: str, existed: bool, dir_fd: int | None = None) -> None:
        """Note that a file has been opened to be written."""
        size = os.fstat(descriptor).st_size
        self._durable.setdefault(_identity(descriptor), (os.dup(descriptor), size if existed else 0))
        if not existed:
            folder, name = _place(path, dir_fd)
            self._changed(folder, lambda: self._bury(folder, name))

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        with self.call("open" if flags & os.O_CREAT else "look"):
            existed = _exists(path, dir_fd)
            descriptor = REAL["open"](path, flags, mode, dir_fd=dir_fd)
            if flags & (os.O_WRONLY | os.O_RDWR):
                self.open_file(descriptor, path, existed, dir_fd)
            return descriptor

    def open_stream(self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+"):
            with self.call("look"):
                return self._open(file, mode, buffering, *rest, **more)
        with self.call("open"):
            existed = os.path.exists(file)
            raw = CountedFile(os.fspath(file), mode.replace("b", "").replace("t", ""))
            raw.disk = self
            self.open_file(raw.fileno(), os.fspath(file), existed)
        if buffering == 0:
            return raw
        buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *rest, **more)

    def fsync(self, descriptor: int) -> None:
        with self.call("fsync"):
            status, which = os.fstat(descriptor), _identity(descriptor)
            if stat.S_ISDIR(status.st_mode):
                self._unsynced = [change for change in self._unsynced if change[0] != which]
            elif which in self._durable:
                self._durable[which] = self._durable[which][0], status.st_size

    def rename(self, source: Any, target: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        with self.call("rename"):
            folder, name = _place(source, src_dir_fd)
            goal, new_name = _place(target, dst_dir_fd)
            assert _identity(folder) == _identity(goal), "a power cut would have to know more of names in two folders"
            back = lambda: None  # noqa: E731
            if _exists(target, dst_dir_fd) and not os.path.isdir(target):
                back = self._bury(goal, new_name)
            REAL["rename"](name, new_name, src_dir_fd=folder, dst_dir_fd=goal)

            def undo() -> None:
                REAL["rename"](new_name, name, src_dir_fd=goal, dst_dir_fd=folder)
                back()

            self._changed(folder, undo)

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        with self.call("unlink"):
            os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
            folder, name = _place(path, dir_fd)
            self._changed(folder, self._bury(folder, name))

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        with self.call("mkdir"):
            REAL["mkdir"](path, mode, dir_fd=dir_fd)
            folder, name = _place(path, dir_fd)
            self._changed(folder, lambda: self._bury(folder, name))

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        with self.call("rmdir"):
            folder, name = _place(path, dir_fd)
            if os.listdir(os.path.join(f"/proc/self/fd/{folder}", name)):
                raise OSError(errno.ENOTEMPTY, "Directory not empty")
            self._changed(folder, self._bury(folder, name))

    def install(self) -> None:
        """Put this disk below all of this process."""
        io.open = builtins.open = self.open_stream  # type: ignore[assignment]
        for name in ("open", "fsync", "rename", "unlink", "mkdir", "rmdir"):
            setattr(os, name, getattr(self, name))
        os.replace = self.rename


class CountedFile(io.FileIO):
    """An open file whose writing goes through the disk; of a write that goes wrong, half is there."""

    disk: Disk

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        with self.disk.call("write", lambda: super(CountedFile, self).write(view[: len(view) // 2])):
            return super().write(view)

    def truncate(self, size: int | None = None) -> int:
        with self.disk.call("truncate"):
            return super().truncate(size)


def outcome(function: Callable[[], None], fault: str, n: int, grave: Path) -> int:
    """Run a function in a process of its own, whose n-th call goes wrong.

    Returns
    -------
    int
        THROUGH if there were fewer calls; FAULTY if the function came to its end after the fault, in whatever way that
        a user is told; CRASHED if it could not; BROKEN after any other exception.
    """
    grave.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a fork is no good beside threads: there are none
        child = os.fork()
    if child == 0:
        from dist_llm.errors import UserError

        status = BROKEN
        disk = Disk(fault, n, grave)
        try:
            disk.install()
            with contextlib.suppress(UserError):
                function()
            status = THROUGH if disk.calls < n else FAULTY
        except OSError as error:
            status = FAULTY if error.errno in (errno.EIO, errno.ENOSPC) else BROKEN
            if status == BROKEN:
                traceback.print_exc()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _place(path: Any, dir_fd: int | None) -> tuple[int, str]:
    """Return a descriptor of the folder that a path is in, which stays the same whatever it is called, and its name."""
    folder, name = os.path.split(os.fspath(path))
    return REAL["open"](folder or ".", os.O_RDONLY, dir_fd=dir_fd), name


def _exists(path: Any, dir_fd: int | None) -> bool:
    try:
        os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except OSError:
        return False
    return True
