"""Signals that come while a program is still being imported end it with one line, and no traceback.

`parallel.program.run` listens from its beginning on, and a training run turns signals into requests. Before, there is
the second in which Python reads NumPy and MPI. Only the standard library is used here, and little of it.
"""

import os
import signal
import sys
import types
import warnings

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
STATUS = 130  # as a shell calls the end by Ctrl-C
# What launchers (Open MPI's, MPICH's and Intel's, MVAPICH's, PMIx, PALS, Slurm's) call a process's rank.
LAUNCHER_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK", "PALS_RANKID", "SLURM_PROCID")


def is_program() -> bool:
    """Whether this Python was started for a command of this package, rather than for somebody who imports it."""
    if sys.argv[:1] == ["-m"] and "-m" in sys.orig_argv:
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1]
        return module != [] and module[0].partition(".")[0] == "dist_llm"
    return os.path.basename(sys.argv[0] if sys.argv else "") == "dist-llm"


def listen() -> None:
    """End at a signal of `SIGNALS`, but for those that the user told this process to ignore."""
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end)


def raise_at_first() -> None:
    """From now on, let the first signal raise KeyboardInterrupt, which leads to an orderly end."""
    for number in SIGNALS:
        if signal.getsignal(number) is _end:
            signal.signal(number, _raise)


def _raise(number: int, frame: types.FrameType | None) -> None:
    for other in SIGNALS:
        if signal.getsignal(other) is _raise:
            signal.signal(other, _end_silently)
    # A file that is just being opened has no owner yet who would close it; where warnings are on, Python would say so.
    warnings.simplefilter("ignore", ResourceWarning)
    raise KeyboardInterrupt


def _end_silently(number: int, frame: types.FrameType | None) -> None:
    # A launcher may pass SIGUSR1 on several times, while the end is under way.
    if number != signal.SIGUSR1:
        os._exit(STATUS)


def _end(number: int, frame: types.FrameType | None) -> None:
    if all(os.environ.get(name, "0") == "0" for name in LAUNCHER_RANKS):  # one of several ranks speaks
        os.write(2, b"interrupted\n")
    os._exit(STATUS)
