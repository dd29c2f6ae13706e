"""The gradient check: an analytic gradient against central differences along random directions, in float64."""

from collections.abc import Callable, Iterable

import numpy as np

STEP = 1e-5


def check_gradient(
    function: Callable[[], float],
    x: np.ndarray,
    dx: np.ndarray,
    rng: np.random.Generator,
    name: str,
    directions: int = 3,
) -> None:
    """Check that `dx` is the gradient of `function` with respect to the array `x`, which it reads."""
    assert x.dtype == dx.dtype == np.float64, name
    assert x.shape == dx.shape, name
    assert np.any(dx), f"{name}: the gradient is zero everywhere"
    saved = x.copy()
    for _ in range(directions):
        direction = rng.standard_normal(x.shape)
        direction /= np.linalg.norm(direction)
        x[...] = saved + STEP * direction
        above = function()
        x[...] = saved - STEP * direction
        below = function()
        x[...] = saved
        numeric, analytic = (above - below) / (2 * STEP), float((dx * direction).sum())
        # Compared with the size of the gradient, not of its component along one direction, which may be near zero.
        scale = np.linalg.norm(dx) / np.sqrt(dx.size) + abs(numeric)
        assert abs(numeric - analytic) < 1e-6 * scale, f"{name}: {analytic} by hand, {numeric} by differences"


def check_layer(forward: Callable, backward: Callable, x: np.ndarray | None, params: Iterable, seed: int = 0) -> None:
    """Check dx and every parameter's gradient of a layer for a random dy.

    ``forward()`` returns (y, cache) and reads `x`; ``backward(dy, cache)`` returns dx.
    """
    rng = np.random.default_rng(seed)
    y, cache = forward()
    dy = rng.standard_normal(y.shape)
    params = list(params)
    # Gradients are added to what is there already: a layer that assigned them instead would be caught.
    before = {p.name: rng.standard_normal(p.shape) for p in params}
    for p in params:
        p.grad[...] = before[p.name]
    dx = backward(dy, cache)

    def scalar() -> float:
        return float((forward()[0] * dy).sum())

    if x is not None:
        check_gradient(scalar, x, dx, rng, "dx")
    for p in params:
        check_gradient(scalar, p.data, p.grad - before[p.name], rng, p.name)
