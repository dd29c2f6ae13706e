"""Choosing the next token: temperature, top-k and top-p (nucleus, Holtzman et al. 2020, arXiv 1904.09751)."""

from dataclasses import dataclass

import numpy as np

from dist_llm.errors import UserError


@dataclass(frozen=True)
class Sampler:
    """Turns logits into a token.

    Parameters
    ----------
    temperature : float
        Divides the logits; below 1 sharpens, 0 always takes the likeliest token.
    top_k : int
        Only the k likeliest tokens; 0: all.
    top_p : float
        Only the smallest set of likeliest tokens that together have at least this probability; 1: all.

    Raises
    ------
    UserError
        A value out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < np.inf:
            raise UserError(f"temperature must be 0 or above, not {self.temperature}")
        if self.top_k < 0:
            raise UserError(f"top-k must be 0 (all tokens) or above, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top-p must lie in (0, 1], not {self.top_p}")

    def sample(self, logits: np.ndarray, rng: np.random.Generator) -> int:
        """Return a token drawn from the logits of shape (V,)."""
        if self.temperature == 0:
            return int(logits.argmax())
        probabilities = self.probabilities(logits)
        # Inverse transform: one uniform number per token, however large the vocabulary.
        cumulative = probabilities.cumsum()
        return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the float64 probabilities of shape (V,) from which `sample` draws; temperature above 0."""
        # The maximum is subtracted before the division, which a tiny temperature would otherwise carry to infinity.
        with np.errstate(over="ignore"):  # minus infinity is right for all others
            p = np.exp((logits.astype(np.float64) - logits.max()) / self.temperature)
        order = np.argsort(-p, kind="stable")
        if self.top_k:
            p[order[self.top_k :]] = 0
        p /= p.sum()
        if self.top_p < 1:
            before = np.concatenate([[0.0], p[order].cumsum()[:-1]])
            p[order[before >= self.top_p]] = 0  # the token that crosses the border stays
            p /= p.sum()
        return p
