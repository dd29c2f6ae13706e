"""The loss over a whole split of the data, or over other texts, the ranks sharing the work."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dist_llm.data.loader import NOT_COUNTED, Tokens, read_window, validation_windows
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
        Tokens predicted: all that count of the text but its first.
    """

    loss: float
    perplexity: float
    bits_per_byte: float
    n_tokens: int


class Sums(NamedTuple):
    """What the predictions of a text add up to; those of several texts can be added again.

    Attributes
    ----------
    nats : float
        Cross-entropy.
    n_tokens : int
        Tokens predicted.
    n_bytes : int
        Bytes of text that they stand for.
    """

    nats: float
    n_tokens: int
    n_bytes: int

    def evaluation(self) -> Evaluation:
        """Return them per token and per byte."""
        loss = self.nats / max(1, self.n_tokens)
        bits = self.nats / math.log(2) / max(1, self.n_bytes)
        return Evaluation(loss, math.exp(min(loss, 700)), bits, self.n_tokens)


def total(sums: Sequence[Sums]) -> Sums:
    """Return the sums of several texts together."""
    return Sums(math.fsum(s.nats for s in sums), sum(s.n_tokens for s in sums), sum(s.n_bytes for s in sums))


class StoppedError(Exception):
    """An evaluation was left because somebody asked for the end; raised on every rank."""


class Watcher:
    """Looks on at an evaluation; this one does not care."""

    def done(self, n: int, total: int) -> None:
        """Learn that `n` of `total` batches are done."""

    @property
    def stopped(self) -> bool:
        """Whether this rank was asked to stop."""
        return False


def evaluate(
    model: Llama,
    tokens: Tokens,
    tokenizer: Tokenizer,
    comm: Comm,
    batch_size: int,
    n_tokens: int = 0,
    watcher: Watcher | None = None,
) -> Evaluation:
    """Predict every token of `tokens` that counts, but the first, each once, in windows of the model's context.

    Parameters
    ----------
    tokens : Tokens
        At least two tokens.
    tokenizer : Tokenizer
        Tells how many bytes of text a token stands for.
    batch_size : int
        Windows evaluated at once.
    n_tokens : int
        If it is not 0, at most about so many are predicted: those of windows that are spread evenly.
    watcher : Watcher, optional

    Returns
    -------
    Evaluation
        The same on every rank, and bit for bit the same for any number of ranks: the batches are the same whoever
        computes them, and their losses are added in their order.

    Raises
    ------
    StoppedError
        The watcher of any rank wanted the end.
    """
    return evaluate_texts(model, [tokens], tokenizer, comm, batch_size, n_tokens, watcher)[0].evaluation()


def evaluate_texts(
    model: Llama,
    texts: Sequence[Tokens],
    tokenizer: Tokenizer,
    comm: Comm,
    batch_size: int,
    n_tokens: int = 0,
    watcher: Watcher | None = None,
) -> list[Sums]:
    """Do with each of several texts as `evaluate` does with one, the ranks sharing the work of all of them."""
    watcher = watcher or Watcher()
    token_lengths = np.array([len(token) for token in tokenizer.token_bytes])
    batches = [
        (i, batch)
        for i, tokens in enumerate(texts)
        for batch in _batches(spread(validation_windows(tokens, model.config.max_seq_len), n_tokens), batch_size)
    ]
    sums = np.zeros((len(batches), len(Sums._fields)))
    stopped = np.zeros(1)
    for start in range(0, len(batches), comm.size):
        if (k := start + comm.rank) < len(batches):
            i, batch = batches[k]
            windows = [read_window(texts[i], *window) for window in batch]
            inputs, targets = (np.stack(parts) for parts in zip(*windows, strict=True))
            counted = targets[targets != NOT_COUNTED]
            sums[k] = model.loss(inputs, targets)[0], counted.size, token_lengths[counted].sum()
        # Between any two batches all ranks look whether one has to stop: none is left waiting for it.
        stopped[:] = watcher.stopped
        comm.allreduce_(stopped)
        if stopped[0]:
            raise StoppedError
        watcher.done(min(start + comm.size, len(batches)), len(batches))
    # Each row is some rank's numbers plus the others' zeros: the reduction is exact.
    comm.allreduce_(sums)
    of_text: list[list[Sums]] = [[] for _ in texts]
    for (i, _), (nats, counted, n_bytes) in zip(batches, sums.tolist(), strict=True):
        of_text[i].append(Sums(nats, int(counted), int(n_bytes)))
    return [total(parts) for parts in of_text]


def spread(windows: Sequence[tuple[int, int]], n_tokens: int) -> Sequence[tuple[int, int]]:
    """Return windows of `n_tokens` or a little more together, at even distances; all of them if that is 0."""
    n = -(-n_tokens // windows[0][1])
    if not n or n >= len(windows):
        return windows
    return [windows[i * len(windows) // n] for i in range(n)]


def _batches(windows: Sequence[tuple[int, int]], batch_size: int) -> list[list[tuple[int, int]]]:
    batches: list[list[tuple[int, int]]] = []
    for window in windows:
        # All windows are equally long but the last.
        if batches and len(batches[-1]) < batch_size and batches[-1][0][1] == window[1]:
            batches[-1].append(window)
        else:
            batches.append([window])
    return batches
