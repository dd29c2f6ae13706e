"""An independent Llama in JAX: plain functions of a dict of parameters, gradients by `jax.grad`.

Only the names of the parameters are shared with ours. Rotary embedding by cosines and sines, attention with the full
square of scores. The tests hold our model to it, and the benchmark measures it.

How the arrays are laid out does not change the numbers, only the speed: with the rows of all sequences as one matrix
(N, D), N = B T, and heads in front of time, XLA compiles the backward pass into loops over contiguous memory. With
(B, T, D) throughout, the same step takes 1.4 times as long.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dist_llm.config import ModelConfig, OptimConfig

Array = Any
Tensors = dict[str, Any]


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """Root mean square norm of (..., D)."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def rope(x: Array, theta: float) -> Array:
    """(B, H, T, Dh): turn the pairs (2i, 2i + 1)."""
    T, Dh = x.shape[-2:]
    angles = np.outer(np.arange(T), theta ** (-np.arange(0, Dh, 2) / Dh))
    cos, sin = jnp.asarray(np.cos(angles), x.dtype), jnp.asarray(np.sin(angles), x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return jnp.stack((even * cos - odd * sin, even * sin + odd * cos), axis=-1).reshape(x.shape)


def attention(params: Tensors, name: str, x: Array, T: int, c: ModelConfig) -> Array:
    """Causal self-attention, (N, D) to (N, D)."""
    N, D = x.shape
    q, k, v = (
        (x @ params[f"{name}.{part}_proj.weight"].T).reshape(N // T, T, -1, D // c.n_heads).swapaxes(1, 2)
        for part in ("q", "k", "v")
    )  # (B, H, T, Dh)
    q, k = rope(q, c.rope_theta), rope(k, c.rope_theta)
    k, v = (jnp.repeat(part, c.n_heads // part.shape[1], axis=1) for part in (k, v))
    scores = q @ k.swapaxes(2, 3) / (D // c.n_heads) ** 0.5
    scores = jnp.where(np.tri(T, dtype=bool), scores, -jnp.inf)
    o = jax.nn.softmax(scores) @ v
    return o.swapaxes(1, 2).reshape(N, D) @ params[f"{name}.o_proj.weight"].T


def feed_forward(params: Tensors, name: str, x: Array) -> Array:
    """SwiGLU, (N, D) to (N, D)."""
    gate, up = (x @ params[f"{name}.{part}_proj.weight"].T for part in ("gate", "up"))
    return (jax.nn.silu(gate) * up) @ params[f"{name}.down_proj.weight"].T


def logits(params: Tensors, tokens: Array, c: ModelConfig) -> Array:
    """Int (B, T) to (B, T, V)."""
    embedding = params["model.embed_tokens.weight"]
    B, T = tokens.shape
    x = embedding[tokens.reshape(-1)]  # (N, D)
    for i in range(c.n_layers):
        name = f"model.layers.{i}"
        h = rms_norm(x, params[f"{name}.input_layernorm.weight"], c.norm_eps)
        x = x + attention(params, f"{name}.self_attn", h, T, c)
        h = rms_norm(x, params[f"{name}.post_attention_layernorm.weight"], c.norm_eps)
        x = x + feed_forward(params, f"{name}.mlp", h)
    h = rms_norm(x, params["model.norm.weight"], c.norm_eps)
    return (h @ (embedding if c.tie_embeddings else params["lm_head.weight"]).T).reshape(B, T, -1)


def loss(params: Tensors, tokens: Array, targets: Array, c: ModelConfig) -> Array:
    """Mean cross-entropy per token."""
    log_p = jax.nn.log_softmax(logits(params, tokens, c))
    return -jnp.take_along_axis(log_p, targets[..., None], axis=-1).mean()


def clipped(grads: Tensors, max_norm: float) -> Tensors:
    """Scale gradients so that their global norm is at most max_norm."""
    norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in grads.values()))
    factor = jnp.minimum(1.0, max_norm / norm)
    return {name: g * factor for name, g in grads.items()}


def adamw(
    params: Tensors, grads: Tensors, m: Tensors, v: Tensors, t: Array, lr: float, c: OptimConfig
) -> tuple[Tensors, Tensors, Tensors]:
    """Step t = 1, 2, ... with decay on matrices only; returns the new (params, m, v)."""
    m = {name: c.beta1 * m[name] + (1 - c.beta1) * g for name, g in grads.items()}
    v = {name: c.beta2 * v[name] + (1 - c.beta2) * g * g for name, g in grads.items()}
    new = {}
    for name, p in params.items():
        update = (m[name] / (1 - c.beta1**t)) / (jnp.sqrt(v[name] / (1 - c.beta2**t)) + c.eps)
        new[name] = p - lr * (update + (c.weight_decay * p if p.ndim > 1 else 0))
    return new, m, v
