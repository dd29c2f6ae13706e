"""`model.loss_head`, compiled."""

import numpy as np

from dist_llm.fast.compiled import compiled_sums
from dist_llm.fast.elementwise import exp
from dist_llm.fast.instructions import PAIRS
from dist_llm.fast.products import product
from dist_llm.model import loss_head


class LossHead(loss_head.LossHead):
    """The same."""

    kind: np.ndarray = PAIRS  # of the words that are multiplied

    def _forward_chunk(self, rows: np.ndarray, targets: np.ndarray, logits: np.ndarray) -> float:
        product(rows, False, self.weight.data, True, logits, False, self.kind)
        return softmax_cross_entropy_(logits, targets)

    def _backward_chunk(self, rows: np.ndarray, dlogits: np.ndarray, dh: np.ndarray) -> None:
        product(dlogits, True, rows, False, self.weight.grad, True, self.kind)
        product(dlogits, False, self.weight.data, False, dh, False, self.kind)


@compiled_sums
def softmax_cross_entropy_(logits, targets):
    """As `model.functional.softmax_cross_entropy_`."""
    N, V = logits.shape
    loss = 0.0
    for n in range(N):
        most = logits[n, 0]
        for i in range(1, V):
            most = max(most, logits[n, i])
        target = logits[n, targets[n]] - most
        total = np.float32(0)
        for i in range(V):
            e = exp(logits[n, i] - most)
            logits[n, i] = e
            total += e
        loss += np.log(np.float64(total)) - np.float64(target)
        inverse = np.float32(1) / total
        for i in range(V):
            logits[n, i] *= inverse
        logits[n, targets[n]] -= np.float32(1)
    return loss
