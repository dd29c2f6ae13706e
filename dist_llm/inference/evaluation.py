"""The loss over a whole split of the data, the ranks sharing the work."""

import math
from dataclasses import dataclass

import numpy as np

from dist_llm.data.loader import Tokens, validation_windows
from dist_llm.model.llama import Llama
from dist_llm.parallel.comm import Comm
from dist_llm.text import Tokenizer


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicts a text.

    Attributes
    ----------
    loss : float
        Cross-entropy in nats per token.
    perplexity : float
        exp(loss).
    bits_per_byte : float
        The same information per byte of text, which does not depend on the tokenizer.
    n_tokens : int
        Tokens predicted: all of the text but its first.
    """

    loss: float
    perplexity: float
    bits_per_byte: float
    n_tokens: int


def evaluate(model: Llama, tokens: Tokens, tokenizer: Tokenizer, comm: Comm, batch_size: int) -> Evaluation:
    """Predict every token of `tokens` but the first, each once, in windows of the model's context.

    Parameters
    ----------
    tokens : Tokens
        At least two tokens.
    tokenizer : Tokenizer
        Tells how many bytes of text a token stands for.
    batch_size : int
        Windows evaluated at once.

    Returns
    -------
    Evaluation
        The same on every rank, and bit for bit the same for any number of ranks: the batches are the same whoever
        computes them, and their losses are added in their order.
    """
    windows = validation_windows(tokens, model.config.max_seq_len)
    batches: list[list[tuple[int, int]]] = []
    for window in windows:
        # All windows are equally long but the last.
        if batches and len(batches[-1]) < batch_size and batches[-1][0][1] == window[1]:
            batches[-1].append(window)
        else:
            batches.append([window])
    losses = np.zeros(len(batches))
    for i in range(comm.rank, len(batches), comm.size):
        batch = np.stack([tokens.read(start, length + 1) for start, length in batches[i]])
        losses[i] = model.loss(batch[:, :-1], batch[:, 1:])[0]
    # Each loss is some rank's number plus the others' zeros: the reduction is exact.
    comm.allreduce_(losses)
    n_tokens = len(tokens) - 1
    n_bytes = tokens.n_bytes - len(tokenizer.token_bytes[int(tokens.read(0, 1)[0])])
    nats = math.fsum(losses)
    loss = nats / n_tokens
    return Evaluation(loss, math.exp(min(loss, 700)), nats / math.log(2) / max(1, n_bytes), n_tokens)
