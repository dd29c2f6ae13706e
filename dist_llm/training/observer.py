"""What may look on at a training step, to measure it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from dist_llm.model.layer import Observe, unobserved


class Observer(Protocol):
    """An observer of a step: it learns when phases begin and end, and may wrap the layers of the model (`Observe`)."""

    @property
    def layer(self) -> Observe:
        """The function that is called with each layer."""
        ...

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Return the context in which a phase is run."""
        ...


class Unobserved:
    """An observer that does nothing."""

    layer: Observe = staticmethod(unobserved)

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()
