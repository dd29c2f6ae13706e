"""The exceptions that are reported as one line, without a traceback, and once however many ranks there are."""

import difflib
from collections.abc import Iterable

LONGEST = 2000  # characters of a message


class ReportedError(Exception):
    """Ends the program with its message on stderr.

    Parameters
    ----------
    message : str
    agreed : bool
        Whether every rank is known to raise it too. If so, all ranks end by themselves; if not, the one that raised it
        must end the others, which may be waiting for it.

    Attributes
    ----------
    status : int
        Exit status of the program.
    """

    status: int

    def __init__(self, message: str, agreed: bool = False) -> None:
        super().__init__(_one_line(message))
        self.agreed = agreed


class UserError(ReportedError, ValueError):
    """A mistake in what the user asked for; its message names the fix."""

    status = 2


class RunError(ReportedError, RuntimeError):
    """The run went wrong in a way that is understood: its message says what happened and how to go on."""

    status = 1


class RankLostError(Exception):
    """A rank has died while others were waiting for it, and the communicator is of no more use."""


class FailedElsewhereError(Exception):
    """Another rank failed in what all ranks did together, and tells the user; this one ends too, without a word."""


def _one_line(message: str) -> str:
    """Return a message that a terminal shows as a line: names in it may come from files, with anything in them."""
    if len(message) > LONGEST:
        message = f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in message)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return what a message says after a word that is not known: the one most like it, or all that are known."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else f" (known: {', '.join(known)})"
