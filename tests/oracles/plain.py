"""Slow, plain versions of what dist_llm computes in a cleverer order."""

import numpy as np


def plain_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """softmax(mask(q k^T)) v with the full square of scores; q (B, K, G, T, Dh), k and v (B, K, 1, T, Dh)."""
    T = q.shape[-2]
    scores = q @ k.swapaxes(-1, -2)
    scores = np.where(np.tri(T, dtype=bool), scores, -np.inf)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


def plain_attention_backward(do: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> tuple:
    T = q.shape[-2]
    scores = np.where(np.tri(T, dtype=bool), q @ k.swapaxes(-1, -2), -np.inf)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    dp = do @ v.swapaxes(-1, -2)
    dscores = p * (dp - (p * dp).sum(axis=-1, keepdims=True))
    dk = (dscores.swapaxes(-1, -2) @ q).sum(axis=2, keepdims=True)
    dv = (p.swapaxes(-1, -2) @ do).sum(axis=2, keepdims=True)
    return dscores @ k, dk, dv


def plain_rotary_emb(x: np.ndarray, theta: float) -> np.ndarray:
    """Turn each pair (2i, 2i + 1) of (..., T, Dh) with a rotation matrix of its own."""
    T, Dh = x.shape[-2:]
    y = np.empty_like(x)
    for t in range(T):
        for i in range(0, Dh, 2):
            angle = t * theta ** (-i / Dh)
            matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            y[..., t, i : i + 2] = x[..., t, i : i + 2] @ matrix.T
    return y


def plain_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Sum over rows of -log softmax(logits)[target], one row at a time."""
    return sum(
        float(np.log(np.exp(row - row.max()).sum()) - (row[target] - row.max()))
        for row, target in zip(logits.astype(np.float64), targets, strict=True)
    )


def plain_adamw(p, g, m, v, t, lr, beta1, beta2, eps, weight_decay):
    """One AdamW update as the paper writes it; returns the new (p, m, v)."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    return p - lr * (m_hat / (np.sqrt(v_hat) + eps) + weight_decay * p), m, v
