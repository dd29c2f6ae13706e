"""How far a preparation is: a bar on a terminal, and elsewhere a line now and then."""

import sys
import time

from tqdm import tqdm

LINE_EVERY_S = 10.0


class Progress:
    """Shows on stderr how much of something is done; what takes less than ten seconds has no lines in a log.

    Parameters
    ----------
    what : str
        "encoding train", for example.
    total : int
        Bytes.
    shown : bool
    """

    def __init__(self, what: str, total: int, shown: bool = True) -> None:
        self._what, self._total, self._done, self._skipped = what, total, 0, 0
        self._lines = shown and not sys.stderr.isatty()
        self._start = self._said = time.perf_counter()
        self._bar = tqdm(total=total, desc=what, unit="B", unit_scale=True, disable=not shown or self._lines)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def skip(self, n: int) -> None:
        """Say that `n` bytes need not be done: they were done before."""
        self._skipped += n
        self.add(n)

    def add(self, n: int) -> None:
        """Say that `n` more bytes are done."""
        self._done += n
        self._bar.update(n)
        now = time.perf_counter()
        if self._lines and now - self._said >= LINE_EVERY_S:
            self._said = now
            rate = (self._done - self._skipped) / (now - self._start)
            left = max(0, self._total - self._done) / max(rate, 1)
            print(
                f"{self._what}: {self._done / max(self._total, 1):.0%} of {self._total / 1e6:,.0f} MB, "
                f"{rate / 1e6:.1f} MB/s, {left:,.0f} s left",
                file=sys.stderr,
                flush=True,
            )
