"""The tokens on every rank: read from the shards where a rank's host has them, and otherwise sent by rank 0.

Hosts of a cluster often share a file system, and each rank maps the same files into memory. Where they do not, only
rank 0's host need have the text.
"""

from pathlib import Path

import numpy as np

from dist_llm.data.loader import Tokens
from dist_llm.data.prepare import open_data
from dist_llm.data.shards import TokenShards
from dist_llm.errors import UserError
from dist_llm.parallel.comm import Comm
from dist_llm.text import Tokenizer, tokenizer_from_dict

CHUNK = 1 << 20  # tokens sent at once


class TokensInMemory:
    """The tokens of a split that came over the network.

    Parameters
    ----------
    tokens : ndarray of int32, shape (n,)
    fingerprint, n_bytes
        As of `TokenShards`.
    """

    def __init__(self, tokens: np.ndarray, fingerprint: str, n_bytes: int) -> None:
        self._tokens, self.fingerprint, self.n_bytes = tokens, fingerprint, n_bytes

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self._tokens)

    def read(self, start: int, count: int) -> np.ndarray:
        """Return tokens start, ..., start + count - 1."""
        return self._tokens[start : start + count]


def open_everywhere(folder: Path, comm: Comm) -> tuple[Tokenizer, Tokens, Tokens, list[int]]:
    """Open a prepared folder that rank 0 has, and perhaps others; a collective call.

    Returns
    -------
    tokenizer : Tokenizer
    train, val : Tokens
    received : list of int
        The ranks that had to be sent the tokens.

    Raises
    ------
    UserError
        Rank 0 cannot open it.
    """
    here: tuple[Tokenizer, TokenShards, TokenShards] | None = None

    def attempt() -> None:
        nonlocal here
        try:
            here = open_data(folder)
        except UserError:
            if comm.rank == 0:
                raise

    comm.on_every_rank(attempt)
    mine = here and (here[0].to_dict(), [(len(s), s.fingerprint, s.n_bytes) for s in here[1:]])
    reports = comm.gather(mine and mine[1])
    # Other tokens under the same name are as good as none.
    received = [rank for rank, report in enumerate(reports) if report != reports[0]]
    if not received:
        assert here is not None
        return (*here, [])
    description = comm.gather(mine if comm.rank == 0 else None)[0]
    own = (None, None) if here is None or comm.rank in received else (here[1], here[2])
    splits: list[Tokens] = []
    for shards, (n, fingerprint, n_bytes) in zip(own, description[1], strict=True):
        tokens = _send(shards, n, comm)
        splits.append(TokensInMemory(tokens, fingerprint, n_bytes) if shards is None else shards)
    return tokenizer_from_dict(description[0]), splits[0], splits[1], received


def _send(shards: TokenShards | None, n: int, comm: Comm) -> np.ndarray:
    """Send rank 0's tokens to all; return them on those that have no shards, and nothing on the others."""
    tokens = np.empty(n if shards is None else 0, np.int32)
    for start in range(0, n, CHUNK):
        count = min(CHUNK, n - start)
        # A rank that has them takes part all the same: a broadcast is everybody's.
        chunk = np.empty(count, np.int32) if shards is None else shards.read(start, count)
        comm.broadcast_(chunk)
        if shards is None:
            tokens[start : start + count] = chunk
    return tokens
