"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864), in LLaMA's interleaved-pair convention.

Elements (2i, 2i+1) of a head are one complex number; at position t it is turned by the angle t * theta^(-2i / Dh).
The product of a turned query and a turned key then depends on their distance only. As a multiplication of complex
numbers this is one NumPy call, about as cheap as a copy. (Hugging Face pairs i with i + Dh/2 instead; the two differ
by a fixed permutation of the rows of q_proj and k_proj.)
"""

import numpy as np


def precompute_freqs_cis(max_seq_len: int, head_dim: int, theta: float, dtype: np.typing.DTypeLike) -> np.ndarray:
    """Return the unit complex numbers exp(i t theta^(-2j / Dh)), of shape (max_seq_len, Dh / 2).

    Parameters
    ----------
    dtype : dtype
        Precision of the model; the table is complex of the same precision, and computed in double.
    """
    frequencies = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    angles = np.outer(np.arange(max_seq_len), frequencies)
    return np.exp(1j * angles).astype(np.result_type(dtype, np.complex64))


def apply_rotary_emb(x: np.ndarray, freqs_cis: np.ndarray) -> np.ndarray:
    """Turn each pair of `x` by `freqs_cis` and move heads in front of time.

    Parameters
    ----------
    x : ndarray of shape (B, T, H, Dh)
    freqs_cis : complex ndarray of shape (T, Dh / 2)

    Returns
    -------
    ndarray of shape (B, H, T, Dh), contiguous
        The order attention works in; the multiplication writes it at no further cost.
    """
    B, T, H, Dh = x.shape
    y = np.empty((B, H, T, Dh), x.dtype)
    np.multiply(x.view(freqs_cis.dtype).swapaxes(1, 2), freqs_cis, out=y.view(freqs_cis.dtype))
    return y


def apply_rotary_emb_backward(dy: np.ndarray, freqs_cis: np.ndarray, out: np.ndarray) -> None:
    """Turn (B, H, T, Dh) back and move time in front of heads, into `out` of (B, T, H, Dh)."""
    # forward was y = x * freqs_cis; the gradient of a complex product is the product with the conjugate
    np.multiply(dy.view(freqs_cis.dtype), freqs_cis.conj(), out=out.view(freqs_cis.dtype).swapaxes(1, 2))
