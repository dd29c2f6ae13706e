"""How a command runs on all ranks, and above all how it ends.

Three ends there are: success; a `ReportedError`, printed as one line; and any other exception, on any rank, which
prints that rank's traceback and ends the whole job, since the other ranks may be waiting for the failed one in a
collective call.
"""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable

from dist_llm.errors import ReportedError, RunError
from dist_llm.parallel.comm import Comm, connect, launcher_rank

# Operating-system errors that are the machine's, not the program's: they too are told in one line.
MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE}


def run(main: Callable[[list[str], Comm], int], argv: list[str] | None = None) -> int:
    """Connect the ranks, call ``main(argv, comm)`` and return the exit status of the process.

    Parameters
    ----------
    main : callable
        Takes the command-line arguments and the communicator, returns the exit status.
    argv : list of str, optional
        Default: those of this process.

    Returns
    -------
    int
        What `main` returned, or the status of a `ReportedError` (2 for a user's mistake); 1 after any other exception,
        130 after Ctrl-C.
    """
    # Until a training run listens for them itself, the signals that end a program do so as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.default_int_handler)
    try:
        # The first thing done, so that all ranks are connected before anything can fail on one of them.
        comm = connect()
    except ReportedError as error:
        if launcher_rank() == 0:
            _print_error(f"error: {error}")
        return error.status
    try:
        return main(sys.argv[1:] if argv is None else argv, comm)
    except ReportedError as error:
        return _report(error, comm)
    except BrokenPipeError:
        # The reader of our output (`| head`) is gone. Python must not try to flush to it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        if comm.rank == 0:
            _print_error("interrupted")
        comm.abort(130)
        return 130
    except Exception as error:
        if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
            return _report(RunError(str(error)), comm)
        prefix = f"[rank {comm.rank}] " if comm.size > 1 else ""
        _print_error("\n".join(prefix + line for line in traceback.format_exc().rstrip().splitlines()))
        comm.abort(1)
        return 1


def _report(error: ReportedError, comm: Comm) -> int:
    if error.agreed or comm.size == 1:
        if comm.rank == 0:
            _print_error(f"error: {error}")
        # The first rank to end with a status other than 0 makes the launcher end the rest: not before rank 0 spoke.
        comm.gather(None)
    else:
        _print_error(f"error on rank {comm.rank}: {error}")
        comm.abort(error.status)
    return error.status


def _print_error(text: str) -> None:
    sys.stdout.flush()
    # In one write, so that the lines of several failing ranks do not mix.
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
