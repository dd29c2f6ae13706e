"""The loader: which tokens are step s's batch, as a pure function of (seed, step).

An epoch cuts the tokens into windows of seq_len inputs, shuffled. Window i reads

    w = tokens[offset + i * seq_len : offset + (i + 1) * seq_len + 1]      x = w[:-1]      y = w[1:]

so neighbours share one token, and no target is predicted twice in an epoch. The offset is drawn anew for each
epoch; otherwise the same tokens would be the first of a window, with no context to use, every time.

There is no position to save in a checkpoint and no worker process: step 1000 is computed, not reached. With N
ranks a step still reads the batch one rank would read, each rank its own shard of the rows.
"""

import hashlib
from functools import lru_cache
from typing import Protocol, Self

import numpy as np

from dist_llm.config import Config
from dist_llm.errors import UserError
from dist_llm.partition import shard
from dist_llm.seeding import generator

NOT_COUNTED = -1  # what stands for a target that does not count


class Tokens(Protocol):
    """A sequence of tokens, such as `TokenShards`: it has a length, a fingerprint and the size of its text in bytes."""

    fingerprint: str
    n_bytes: int

    def __len__(self) -> int:
        """Return the number of tokens."""
        ...

    def read(self, start: int, count: int) -> np.ndarray:
        """Return tokens start, ..., start + count - 1 as int32."""
        ...


class TokensInMemory:
    """Tokens in an array.

    Parameters
    ----------
    tokens : ndarray of int32, shape (n,)
    fingerprint : str
        Identifies them.
    n_bytes : int
        Bytes of text that they stand for.
    """

    def __init__(self, tokens: np.ndarray, fingerprint: str, n_bytes: int) -> None:
        self._tokens, self.fingerprint, self.n_bytes = tokens, fingerprint, n_bytes

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self._tokens)

    def read(self, start: int, count: int) -> np.ndarray:
        """Return tokens start, ..., start + count - 1."""
        return self._tokens[start : start + count]


class CountedTokens:
    """Tokens of which only some count: the others are read, but what predicts them is neither trained nor measured.

    Parameters
    ----------
    tokens : Tokens
    counted : Tokens
        As long; 1 where a token counts, and 0 elsewhere.
    """

    def __init__(self, tokens: Tokens, counted: Tokens) -> None:
        self.tokens, self.counted = tokens, counted
        self.n_bytes = tokens.n_bytes
        self.fingerprint = hashlib.sha256((tokens.fingerprint + counted.fingerprint).encode()).hexdigest()

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    def read(self, start: int, count: int) -> np.ndarray:
        """Return tokens start, ..., start + count - 1."""
        return self.tokens.read(start, count)


def read_window(tokens: Tokens, start: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs start, ..., start + length - 1 and the targets that follow them, -1 where these do not count."""
    window = tokens.read(start, length + 1)
    inputs, targets = window[:-1], window[1:]
    if isinstance(tokens, CountedTokens):
        targets = np.where(tokens.counted.read(start + 1, length), targets, NOT_COUNTED)
    return inputs, targets


class Loader:
    """Batches of training sequences.

    Parameters
    ----------
    tokens : Tokens
        The training split.
    batch_size : int
        Sequences per step, over all ranks together.
    seq_len : int
        Tokens predicted in a sequence.
    seed : int
        Seed of the order of the sequences.

    Attributes
    ----------
    n_sequences : int
        Sequences in an epoch, the same in each.

    Raises
    ------
    UserError
        The text is shorter than one sequence.
    """

    def __init__(self, tokens: Tokens, batch_size: int, seq_len: int, seed: int) -> None:
        if len(tokens) < seq_len + 1:
            raise UserError(
                f"the training text has {len(tokens)} tokens, fewer than model.max_seq_len + 1 = "
                f"{seq_len + 1}: use a longer text or a smaller --model.max_seq_len"
            )
        self.tokens = tokens
        self.batch_size = batch_size
        self.seq_len = seq_len
        self.seed = seed
        # One window fewer than would fit, if there are two: the offset can then shift by a whole window, and
        # every token comes to stand at every position of a sequence.
        self.n_sequences = max(1, (len(tokens) - seq_len) // seq_len)
        # A permutation of millions is drawn once per epoch, not per step; a batch on the border needs two.
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    @classmethod
    def of(cls, tokens: Tokens, config: Config) -> Self:
        """Return the loader of a configuration."""
        return cls(tokens, config.train.batch_size, config.model.max_seq_len, config.train.seed)

    def _draw_epoch(self, epoch: int) -> tuple[int, np.ndarray]:
        slack = len(self.tokens) - 1 - self.n_sequences * self.seq_len
        rng = generator(self.seed, "epoch", epoch)
        return int(rng.integers(slack + 1)), rng.permutation(self.n_sequences)

    def sequence_ids(self, step: int) -> np.ndarray:
        """Return which sequences a step reads.

        Parameters
        ----------
        step : int
            Counted from 0.

        Returns
        -------
        ndarray of shape (batch_size, 2), int64
            Rows of (epoch, index of the window). Batches run over the border of an epoch without a gap, so
            that within an epoch each index occurs exactly once.
        """
        first = step * self.batch_size
        ids = np.empty((self.batch_size, 2), np.int64)
        for row in range(self.batch_size):
            epoch, position = divmod(first + row, self.n_sequences)
            ids[row] = epoch, self._epoch(epoch)[1][position]
        return ids

    def batch(
        self, step: int, rank: int = 0, world_size: int = 1, granularity: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a rank's shard of a step's inputs and targets.

        Parameters
        ----------
        step : int
            Counted from 0.
        rank, world_size : int
            Whose shard; joined in the order of the ranks, the shards are the batch of a single rank.
        granularity : int
            Sequences that are never divided among ranks.

        Returns
        -------
        x, y : ndarray of shape (shard of batch_size, seq_len), int32
            ``y[:, t]`` is the token that follows ``x[:, t]``, or -1 where that does not count.
        """
        ids = self.sequence_ids(step)[shard(self.batch_size, rank, world_size, granularity)]
        x = np.empty((len(ids), self.seq_len), np.int32)
        y = np.empty_like(x)
        for row, (epoch, index) in enumerate(ids.tolist()):
            offset, _ = self._epoch(epoch)
            x[row], y[row] = read_window(self.tokens, offset + index * self.seq_len, self.seq_len)
        return x, y

    def n_targets(self, step: int) -> int:
        """Return how many targets of a step's whole batch count, the same on every rank."""
        if not isinstance(self.tokens, CountedTokens):
            return self.batch_size * self.seq_len
        return int((self.batch(step)[1] != NOT_COUNTED).sum())


def validation_windows(tokens: Tokens, seq_len: int) -> list[tuple[int, int]]:
    """Cover a split so that every token but the very first is predicted exactly once.

    Returns
    -------
    list of (start, length)
        Inputs are tokens start, ..., start + length - 1, targets the same one further. All have length
        `seq_len` but the last, which has what is left.

    Raises
    ------
    UserError
        Fewer than two tokens: there is nothing to predict.
    """
    n_targets = len(tokens) - 1
    if n_targets < 1:
        raise UserError(
            f"the validation text has {len(tokens)} tokens, at least 2 are needed: raise --data.val_fraction "
            "or use a longer text"
        )
    return [(start, min(seq_len, n_targets - start)) for start in range(0, n_targets, seq_len)]
