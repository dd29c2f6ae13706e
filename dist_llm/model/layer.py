"""What layers have in common: the type of their caches, and a way to watch them at work."""

from typing import Any, Protocol, TypeVar

Cache = tuple[Any, ...]

Layer = TypeVar("Layer")


class Observe(Protocol):
    """A function that is called with every layer as the model is built, and returns the layer itself or a wrapper."""

    def __call__(self, phase: str, layer: Layer) -> Layer:
        """Return what stands in the place of `layer`, which does this phase of the work, such as ``attention``."""
        ...


def unobserved(phase: str, layer: Layer) -> Layer:
    """Return the layer itself."""
    return layer
