"""Where the time of a training step goes: an observer that takes the time of its phases and of the model's layers.

A step calls some hundreds of observed methods, which takes the clocks a few tenths of a thousandth of its time.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# The phases of forward and backward; what the two need beyond them (residual connections) is their remainder.
INSIDE = ("embedding", "norms", "attention", "feed-forward", "loss")
REMAINDER = "residuals"
OUTSIDE = ("data", "reduction", "optimizer", "rest")  # rest: zeroing, metrics


class Phases:
    """An `Observer` of a `TrainStep`: seconds by phase, of which ``forward`` and ``backward`` are the whole model's.

    Parameters
    ----------
    waited_s : callable, optional
        Returns the seconds waited for other ranks so far: those are left out. By default they are in the phases.
    """

    def __init__(self, waited_s: Callable[[], float] = lambda: 0.0) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._waited_s = waited_s

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Take the time of a ``with`` block."""
        start = time.perf_counter() - self._waited_s()
        yield
        self.seconds[name] += time.perf_counter() - self._waited_s() - start

    def layer(self, phase: str, layer: Any) -> Any:
        """Return a wrapper of a layer that takes its time."""
        return _Timed(self, phase, layer)

    def of(self, total_s: float) -> dict[str, float]:
        """Return the seconds of each phase of `total_s` seconds; together they are those."""
        clocks = self.seconds
        phases: dict[str, float] = {phase: clocks[phase] for phase in INSIDE}
        phases[REMAINDER] = clocks["forward"] + clocks["backward"] - sum(phases.values())
        # The update is the optimizer's, and what the strategy does behind it.
        reduction = clocks["reduction"] + clocks["update"] - clocks["optimizer"]
        phases |= {"data": clocks["data"], "reduction": reduction, "optimizer": clocks["optimizer"]}
        return phases | {"rest": total_s - sum(phases.values())}


class _Timed:
    """A layer and a clock around its passes."""

    def __init__(self, phases: Phases, phase: str, layer: Any) -> None:
        self._phases, self._phase, self._layer = phases, phase, layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def forward(self, *args: Any) -> Any:
        with self._phases.phase(self._phase):
            return self._layer.forward(*args)

    def backward(self, *args: Any) -> Any:
        with self._phases.phase(self._phase):
            return self._layer.backward(*args)
