"""Turning a signal into a polite request: finish the step, checkpoint, end."""

import signal
import types


class StopRequest:
    """Listens for the signals by which people and schedulers end a program.

    Ctrl-C is SIGINT; SIGTERM and SIGHUP come from kill, a closed terminal, or a scheduler; SIGUSR1 is what a launcher
    can pass to the ranks without ending them itself. A second signal of the same kind has its usual effect.

    Attributes
    ----------
    received : bool
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

    def __init__(self) -> None:
        self.received = False
        self._previous = {number: signal.signal(number, self._receive) for number in self.SIGNALS}

    def _receive(self, number: int, frame: types.FrameType | None) -> None:
        self.received = True
        # A launcher may pass SIGUSR1 on several times; its default action would kill the rank.
        if number != signal.SIGUSR1:
            signal.signal(number, self._previous[signal.Signals(number)])

    def close(self) -> None:
        """Put the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
