"""Mathematics without parameters: pure functions, backward beside forward. A name that ends in _ works in place."""

import numpy as np

from dist_llm.model.layer import Cache


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)), elementwise."""
    # As (1 + tanh(x / 2)) / 2, which is the same, cannot overflow and is faster.
    s = x * x.dtype.type(0.5)
    np.tanh(s, out=s)
    s += 1
    s *= x.dtype.type(0.5)
    return s


def silu_multiply(gate: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, Cache]:
    """SwiGLU's nonlinearity, h = silu(gate) * up with silu(g) = g * sigmoid(g) (Shazeer 2020, arXiv 2002.05202).

    Parameters
    ----------
    gate, up : ndarray of equal shape

    Returns
    -------
    h : ndarray of that shape
    cache : tuple
    """
    s = sigmoid(gate)
    h = gate * s
    h *= up
    return h, (gate, up, s)


def silu_multiply_backward(dh: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """Return (dgate, dup) of `silu_multiply`."""
    gate, up, s = cache
    silu = gate * s
    # forward was h = silu(gate) * up, with silu'(g) = s + g s (1 - s) = s + silu (1 - s), so now ...
    dgate = 1 - s
    dgate *= silu
    dgate += s
    dgate *= up
    dgate *= dh
    # ... and dup = silu dh, in the memory of silu
    dup = np.multiply(silu, dh, out=silu)
    return dgate, dup


def softmax_cross_entropy_(logits: np.ndarray, targets: np.ndarray) -> float:
    """Cross-entropy of each row's softmax, summed over rows; it turns `logits` into their own gradient, in place.

    With p = softmax(z) the loss is sum_n -log p[n, target_n], and its gradient is simply p - onehot(target).

    Parameters
    ----------
    logits : ndarray of shape (N, V)
        Overwritten by d loss / d logits.
    targets : ndarray of int, shape (N,)

    Returns
    -------
    float
        The sum, in nats, accumulated in double precision.
    """
    rows = np.arange(len(targets))
    logits -= logits.max(axis=-1, keepdims=True)
    target_logits = logits[rows, targets].astype(np.float64)
    np.exp(logits, out=logits)
    total = logits.sum(axis=-1, keepdims=True)
    loss = float(np.log(total[:, 0].astype(np.float64)).sum() - target_logits.sum())
    logits /= total
    logits[rows, targets] -= 1
    return loss


def dropout(x: np.ndarray, p: float, rngs: list[np.random.Generator] | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Zero each element with probability p and scale the rest by 1 / (1 - p) (Srivastava et al. 2014).

    Parameters
    ----------
    x : ndarray of shape (B, T, D)
    p : float
    rngs : list of numpy.random.Generator or None
        One per sequence, so that a sequence draws the same mask on whichever rank it is; None: no dropout.

    Returns
    -------
    y : ndarray of shape (B, T, D)
    mask : ndarray of shape (B, T, D) or None
        0 or 1 / (1 - p).
    """
    if p == 0 or rngs is None:
        return x, None
    keep = np.stack([rng.random(x.shape[1:], dtype=np.float32) >= p for rng in rngs])
    mask = keep.astype(x.dtype) / x.dtype.type(1 - p)
    return x * mask, mask


def dropout_backward(dy: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Return dx of `dropout`."""
    return dy if mask is None else dy * mask
