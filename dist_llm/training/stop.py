"""Turning a signal into a polite request: finish the step, checkpoint, end."""

import signal
import types

from dist_llm.interrupts import SIGNALS


class StopRequest:
    """Listens for the signals by which people and schedulers end a program.

    Ctrl-C is SIGINT; SIGTERM and SIGHUP come from kill, a closed terminal, or a scheduler; SIGUSR1 is what a launcher
    can pass to the ranks without ending them itself. A second signal of the same kind has its usual effect.

    Attributes
    ----------
    received : bool
    """

    def __init__(self) -> None:
        self.received = False
        # A signal that is ignored (nohup does that to SIGHUP) stays so.
        found = {number: signal.getsignal(number) for number in SIGNALS}
        self._previous = {int(n): handler for n, handler in found.items() if handler not in (signal.SIG_IGN, None)}
        for number in self._previous:
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: types.FrameType | None) -> None:
        self.received = True
        # A launcher may pass SIGUSR1 on several times; its usual effect would kill the rank.
        if number != signal.SIGUSR1:
            signal.signal(number, self._previous[number])

    def close(self) -> None:
        """Put the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
