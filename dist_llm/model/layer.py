"""What layers have in common: the type of their caches, and a way to watch them at work."""

from typing import Any, Protocol, TypeVar

Cache = tuple[Any, ...]

Layer = TypeVar("Layer")


class Observe(Protocol):
    """Is shown every layer as the model is built, and returns what stands in its place: the layer, or a wrapper."""

    def __call__(self, phase: str, layer: Layer) -> Layer:
        """Return what stands in the place of `layer`, which does this phase of the work, such as ``attention``."""
        ...


def unobserved(phase: str, layer: Layer) -> Layer:
    """Return the layer itself."""
    return layer
