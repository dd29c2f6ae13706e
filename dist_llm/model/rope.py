"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864), in LLaMA's interleaved-pair convention.

Elements (2i, 2i+1) of a head are one complex number; at position t it is turned by the angle t * theta^(-2i / Dh).
The product of a turned query and a turned key then depends on their distance only. As a multiplication of complex
numbers this is one NumPy call, about as cheap as a copy. Hugging Face pairs i with i + Dh/2 instead; the two differ
by a fixed permutation of the rows of q_proj and k_proj, which checkpoints have in Hugging Face's order.
"""

import numpy as np


def rotary_frequencies(head_dim: int, theta: float) -> np.ndarray:
    """Return the angle of each pair per position, float64 (Dh / 2,): theta^(-2j / Dh)."""
    frequencies: np.ndarray = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    return frequencies


def scaled_frequencies(
    frequencies: np.ndarray, factor: float, low_freq_factor: float, high_freq_factor: float, original_max_seq_len: int
) -> np.ndarray:
    """Return the frequencies of Llama 3's longer contexts (Dubey et al. 2024, arXiv 2407.21783).

    A frequency with fewer than `low_freq_factor` periods in the original context is divided by `factor`, one with more
    than `high_freq_factor` stays, and in between they are blended.
    """
    periods = original_max_seq_len * frequencies / (2 * np.pi)
    unscaled = np.clip((periods - low_freq_factor) / (high_freq_factor - low_freq_factor), 0, 1)
    return (1 - unscaled) * frequencies / factor + unscaled * frequencies


def precompute_freqs_cis(max_seq_len: int, frequencies: np.ndarray, dtype: np.typing.DTypeLike) -> np.ndarray:
    """Return the unit complex numbers exp(i t frequency_j), of shape (max_seq_len, Dh / 2).

    Parameters
    ----------
    dtype : dtype
        Precision of the model; the table is complex of the same precision, and computed in double.
    """
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


def to_half_split(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Return the rows (H Dh, D) of q_proj or k_proj in Hugging Face's order: of a head first its even, then its odd."""
    return weight.reshape(n_heads, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def to_interleaved(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Undo `to_half_split`."""
    return weight.reshape(n_heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
