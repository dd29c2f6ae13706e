"""`model.loss_head`, compiled, a part of the vocabulary at a time, which stays in the processor's cache meanwhile.

The logits of a part are side by side in memory. Their exponentials are taken from the largest logit so far (Milakov and
Gimelshein 2018, arXiv 1805.02867), and brought to that of the whole row when it is known.
"""

from collections.abc import Iterator

import numpy as np

from dist_llm.fast.compiled import compiled_sums
from dist_llm.fast.elementwise import exp, largest_of
from dist_llm.fast.instructions import PAIRS
from dist_llm.fast.products import product
from dist_llm.fast.threads import share_out_arrays
from dist_llm.model import loss_head

PART_LOGITS = 1 << 18  # 1 MB


class LossHead(loss_head.LossHead):
    """The same."""

    kind: np.ndarray = PAIRS  # of the words that are multiplied

    def _forward_chunk(self, rows: np.ndarray, targets: np.ndarray, logits: np.ndarray) -> float:
        parts = list(self._parts(logits))
        largest, sums = np.full((len(parts) + 1, len(rows)), -np.inf, rows.dtype), np.zeros_like(rows[:, 0])
        of_targets = np.empty_like(sums)
        for i, (words, part) in enumerate(parts):
            product(rows, False, self.weight.data[words], True, part, False, self.kind)
            share_out_arrays(exponentials_, part, targets - words.start, largest[i], largest[i + 1], sums, of_targets)
        for i, (words, part) in enumerate(parts):
            factors = np.exp(largest[i + 1] - largest[-1]) / sums
            share_out_arrays(to_gradient_, part, targets - words.start, factors)
        return float((np.log(sums, dtype=np.float64) + largest[-1] - of_targets).sum())

    def _backward_chunk(self, rows: np.ndarray, dlogits: np.ndarray, dh: np.ndarray) -> None:
        for words, part in self._parts(dlogits):
            product(part, True, rows, False, self.weight.grad[words], True, self.kind)
            product(part, False, self.weight.data[words], False, dh, words.start > 0, self.kind)

    def _parts(self, logits: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Cut the memory of a chunk's logits into parts: which words, and their logits (N, words)."""
        N, V = logits.shape
        size = max(1, PART_LOGITS // N)
        for start in range(0, V, size):
            words = slice(start, min(start + size, V))
            yield words, logits.reshape(-1)[N * words.start : N * words.stop].reshape(N, -1)


@compiled_sums
def exponentials_(logits, targets, before, largest, sums, of_targets):
    """Turn the logits of a part (N, words) into exponentials.

    Parameters
    ----------
    targets : ndarray of int, shape (N,)
        Counted from the part's first word.
    before, largest : ndarray of shape (N,)
        The largest logits of the parts before; and with this one, to be filled.
    sums : ndarray of shape (N,)
        Sums of the exponentials so far.
    of_targets : ndarray of shape (N,)
        Receives the logits of targets that are in this part.
    """
    N, n_words = logits.shape
    for n in range(N):
        most = max(before[n], largest_of(logits[n]))
        if 0 <= targets[n] < n_words:
            of_targets[n] = logits[n, targets[n]]
        total = np.float32(0)
        for i in range(n_words):
            e = exp(logits[n, i] - most)
            logits[n, i] = e
            total += e
        sums[n] = sums[n] * exp(before[n] - most) + total
        largest[n] = most


@compiled_sums
def to_gradient_(exponentials, targets, factors):
    """Turn a part's exponentials into the gradient of the logits, given what makes probabilities of a row's."""
    N, n_words = exponentials.shape
    for n in range(N):
        for i in range(n_words):
            exponentials[n, i] *= factors[n]
        if 0 <= targets[n] < n_words:
            exponentials[n, targets[n]] -= np.float32(1)
