"""The tokens on every rank: read from the shards where a rank's host has them, and otherwise sent by rank 0.

Hosts of a cluster often share a file system, and each rank maps the same files into memory. Where they do not, only
rank 0's host need have the text. Of the ranks of a host the first one reads every byte of its copy and checks it.
"""

from pathlib import Path

import numpy as np

from dist_llm.data.loader import CountedTokens, Tokens, TokensInMemory
from dist_llm.data.preparation import Data, open_data
from dist_llm.errors import UserError
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.hosts import first_of_host
from dist_llm.text import tokenizer_from_dict

CHUNK = 1 << 20  # tokens sent at once


def broadcast_tokens(folder: Path, comm: Comm) -> tuple[Data, list[int]]:
    """Open a prepared folder that rank 0 has, and perhaps others; a collective call.

    Returns
    -------
    data : Data
    received : list of int
        The ranks that had to be sent the tokens.

    Raises
    ------
    UserError
        Rank 0 cannot open it, or its copy is damaged.
    """
    first = first_of_host(comm)  # that one checks the shards of the host

    def attempt() -> Data | None:
        try:
            return open_data(folder, verify=first[comm.rank] == comm.rank)
        except UserError:
            if comm.rank == 0:
                raise
            return None

    here = comm.on_every_rank(attempt)
    found = [] if here is None else [*_files(here.train), *_files(here.val)]
    mine = tuple((len(tokens), tokens.fingerprint, tokens.n_bytes) for tokens in found)
    reports = comm.allgather(mine)
    # Other tokens under the same name are as good as none, and so is a copy that the first of the host finds damaged.
    received = [rank for rank in range(comm.size) if {reports[rank], reports[first[rank]]} != {reports[0]}]
    if here is not None and not received:
        return here, []
    described = comm.on_rank_0(lambda: (here.tokenizer.to_dict(), here.tokenizer.end_of_text) if here else ({}, None))
    tokenizer = tokenizer_from_dict(*described)
    own = [None] * len(reports[0]) if here is None or comm.rank in received else found
    sent = [_send(tokens, report, comm) for tokens, report in zip(own, reports[0], strict=True)]
    half = len(sent) // 2
    return Data(tokenizer, _joined(sent[:half]), _joined(sent[half:])), received


def _files(tokens: Tokens) -> list[Tokens]:
    """Return what there is to send of a split: its tokens, and where only some count, the marks of these."""
    return [tokens.tokens, tokens.counted] if isinstance(tokens, CountedTokens) else [tokens]


def _joined(files: list[Tokens]) -> Tokens:
    """Return the split of which `_files` made the list."""
    return CountedTokens(*files) if len(files) > 1 else files[0]


def _send(shards: Tokens | None, report: tuple[int, str, int], comm: Comm) -> Tokens:
    """Send rank 0's tokens to all, and return them where there are none."""
    n, fingerprint, n_bytes = report
    tokens = np.empty(n if shards is None else 0, np.int32)
    for start in range(0, n, CHUNK):
        count = min(CHUNK, n - start)
        # A rank that has them takes part all the same: a broadcast is everybody's.
        chunk = np.empty(count, np.int32) if shards is None else shards.read(start, count)
        comm.bcast_(chunk)
        if shards is None:
            tokens[start : start + count] = chunk
    return TokensInMemory(tokens, fingerprint, n_bytes) if shards is None else shards
