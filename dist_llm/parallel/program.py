"""How a command runs on all ranks, and above all how it ends.

Three ends there are: success; a `ReportedError`, printed as one line; and any other exception, on any rank, which
prints that rank's traceback and ends the whole job, since the other ranks may be waiting for the failed one in a
collective call.
"""

import errno
import io
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable

from dist_llm import interrupts
from dist_llm.errors import FailedElsewhereError, RankLostError, ReportedError
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.launcher import connect, launcher_rank
from dist_llm.parallel.same_program import check_same_program
from dist_llm.parallel.watchdog import Watchdog

# What the operating system refuses for reasons outside of the program is told in one line too.
REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE}
REFUSED |= {errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP}


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
    interrupts.listen()  # in MPI's start-up, nothing could be done with an exception
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a model may write what this terminal has no letters for
    try:
        # The first thing done with the others, so that all are connected before anything can fail on one of them.
        comm = connect()
    except ReportedError as error:
        if launcher_rank() == 0:
            print(f"error: {error}", file=sys.stderr, flush=True)
        else:
            time.sleep(1)  # the launcher ends all at the first one's end: rank 0 speaks before
        return error.status
    prefix = f"[rank {comm.rank} {platform.node()}] " if comm.size > 1 else ""
    argv = sys.argv[1:] if argv is None else argv
    try:
        interrupts.raise_at_first()  # until a training run listens itself
        if comm.size > 1:
            comm.watchdog = Watchdog(comm)
        check_same_program(comm, argv)
        status = main(argv, comm)
        return _end("", status, comm, agreed=True, speaks=False)
    except SystemExit as error:  # on this rank alone: the others would wait for it
        if comm.size == 1:
            raise
        return _end(f"{prefix}error: left by sys.exit({error.code!r})", 1, comm, agreed=False, speaks=True)
    except ReportedError as error:
        who = "" if error.agreed else prefix
        return _end(f"{who}error: {error}", error.status, comm, error.agreed, speaks=comm.rank == 0 or not error.agreed)
    except RankLostError:
        text = f"{prefix}error: another rank has died, and this run does not go on without it"
        return _end(text, 1, comm, agreed=False, speaks=True)
    except FailedElsewhereError:
        return _end("", 1, comm, agreed=True, speaks=False)
    except BrokenPipeError:
        # The reader of our output (`| head`) is gone.
        return _end("", 141, comm, agreed=comm.size == 1, speaks=False)
    except KeyboardInterrupt:
        return _end("interrupted", 130, comm, agreed=False, speaks=comm.rank == 0)
    except Exception as error:
        agreed = getattr(error, "agreed", False)
        if isinstance(error, OSError) and error.errno in REFUSED:
            text = f"{prefix}error: cannot use {error.filename or 'the disk or output'}: {error.strerror}"
            return _end(text, 2, comm, agreed, speaks=True)
        text = "\n".join(prefix + line for line in traceback.format_exc().rstrip().splitlines())
        return _end(text, 1, comm, agreed, speaks=True)


def _end(text: str, status: int, comm: Comm, agreed: bool, speaks: bool) -> int:
    """Say why, if this is the rank to do so, and end: together with the others, or by ending them."""
    try:
        sys.stdout.flush()
    except OSError:  # nobody reads it, or its disk is full; Python must not try again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if speaks:
        # In one write, so that the lines of several failing ranks do not mix.
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    comm.watchdog.close()
    if not agreed and comm.size > 1:
        comm.abort(status)
    if status:
        # The first rank that ends with a status other than 0 makes the launcher end the rest: not before one spoke.
        comm.allgather(None)
    if comm.has_shrunk:
        # MPI_Finalize waits for the dead, now and then.
        os._exit(status)
    return status
