"""What is kept of a launcher's stderr: all but Open MPI's blocks on the death of a rank, which become a line."""

import pytest

from dist_llm.launching.help_messages import HelpMessages

RULER = "-" * 74 + "\n"
KILLED = RULER + "prterun noticed that process rank 1 with PID 7051 on node ada exited on\nsignal 9 (Killed).\n" + RULER
EXITED = (
    RULER + "prterun detected that one or more processes exited with non-zero status,\nthus causing the job to be "
    "terminated. The first process to do so was:\n\n   Process name: [prterun-ada-7058@1,12]\n   Exit code:    2\n"
    + RULER
)
ABORTED = (
    RULER + "MPI_ABORT was invoked on rank 1 in communicator MPI_COMM_WORLD\n  Proc: [[189,1],1]\n  Errorcode: 3\n\n"
    "NOTE: invoking MPI_ABORT causes Open MPI to kill all MPI processes.\n" + RULER + "\0" + RULER
    + 'prterun has exited due to process rank 1 with PID 0 on node ada calling\n"abort".\n' + RULER
)  # fmt: skip
OTHER = (
    RULER + "There are not enough slots available in the system to satisfy the 9\nslots that were requested\n" + RULER
)


def shown(text: str, piece: int = 1 << 16) -> str:
    messages, data = HelpMessages(), text.encode()
    pieces = [messages.feed(data[start : start + piece]) for start in range(0, len(data), piece)]
    return (b"".join(pieces) + messages.end()).decode()


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
def test_deaths_are_a_line_each_and_all_else_passes(piece):
    own = "[rank 1] Traceback\n[rank 1] ZeroDivisionError: - -- ---\n--\n"
    text = own + KILLED + EXITED + ABORTED + OTHER + own + "no end of line"
    deaths = "launch: rank 1 on ada was ended by a signal: Killed\nlaunch: rank 12 ended with status 2\n"
    assert shown(text, piece) == own + deaths + OTHER + own + "no end of line"


def test_a_line_of_a_rank_inside_of_a_block_is_not_lost():
    """As has been seen: mpirun hands on what a rank wrote while it writes itself."""
    torn = ABORTED.replace("  Errorcode: 3\n", "  Errorcode: 3\n error on rank 0: no space left\n")
    torn = torn.replace("NOTE: invoking", "NOTE:[rank 2] Traceback\n invoking")
    assert shown(torn) == (
        " error on rank 0: no space left\nNOTE:[rank 2] Traceback\n"
        " invoking MPI_ABORT causes Open MPI to kill all MPI processes.\n"
    )


def test_a_bar_is_shown_at_once():
    messages = HelpMessages()
    assert messages.feed(b"10 %\r") == b"10 %\r"
    assert messages.feed(b"---") == b""
    assert messages.feed(b"- a line\n") == b"---- a line\n"


def test_what_is_no_block_is_not_kept_for_ever():
    text = RULER + "a line\n" * 100
    messages = HelpMessages()
    assert messages.feed(text.encode()).decode() == text
    assert shown(RULER + "at the end") == RULER + "at the end"
