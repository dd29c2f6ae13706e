"""What a run says about itself before its first step."""

import platform
from itertools import groupby
from pathlib import Path

import numpy as np

from dist_llm import __version__
from dist_llm.config import Config
from dist_llm.model.llama import Llama
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import Placement, memory_bytes


def startup_report(
    config: Config, model: Llama, n_train: int, n_val: int, shards: Path, comm: Comm, placement: Placement
) -> str:
    """Return the report, the same on every rank; a collective call.

    Parameters
    ----------
    n_train, n_val : int
        Tokens of the two splits.
    shards : Path
        Where they lie.
    """
    c, t = config.model, config.train
    placements = comm.gather(placement)
    memory = comm.gather(memory_bytes())
    n_hosts = len({p.host for p in placements})
    tokens_per_step = t.batch_size * c.max_seq_len
    per_rank = -(-t.batch_size // comm.size)
    kv = f" ({c.n_kv_heads} for keys and values)" if c.n_kv_heads not in (None, c.n_heads) else ""
    lines = [
        f"dist_llm {__version__}, Python {platform.python_version()}, NumPy {np.__version__}, {placement.blas}",
        f"model    {model.params.size:,} parameters: dim {c.dim}, {_count(c.n_layers, 'layer')}, "
        f"{_count(c.n_heads, 'head')}{kv}, ffn {c.ffn_dim}, vocabulary {model.vocab_size}, context {c.max_seq_len}",
        f"data     {config.data.path or config.data.corpus}, {config.data.tokenizer} tokens: "
        f"{n_train:,} to train on, {n_val:,} to validate ({shards})",
        f"steps    {t.max_steps:,} x {_count(t.batch_size, 'sequence')} x {_count(c.max_seq_len, 'token')} = "
        f"{t.max_steps * tokens_per_step:,} tokens; at most {_count(per_rank, 'sequence')} per rank, "
        f"{min(per_rank, t.micro_batch_size)} at a time",
        f"ranks    {comm.size} on {_count(n_hosts, 'host')}; MPI: {comm.mpi_version}",
    ]
    for (host, cores), members in groupby(range(comm.size), key=lambda r: (placements[r].host, placements[r].cores)):
        ranks = tuple(members)
        threads = placements[ranks[0]].threads
        lines.append(
            f"         {'ranks' if len(ranks) > 1 else 'rank'} {_ranges(ranks)} on {host}, "
            f"{'cores' if len(cores) > 1 else 'core'} {_ranges(cores)}, {_count(threads, 'BLAS thread')}"
            f"{' each' * (len(ranks) > 1)}, memory {', '.join(f'{memory[rank] / 1e6:.0f}' for rank in ranks)} MB"
        )
        if sum(p.threads for p in placements if (p.host, p.cores) == (host, cores)) > len(cores):
            lines.append(f"         more threads than cores: they take turns on {_count(len(cores), 'core')}")
    return "\n".join(lines)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _ranges(numbers: tuple[int, ...]) -> str:
    """(0, 1, 2, 5) -> "0-2,5"."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ",".join(f"{a}-{b}" if a < b else str(a) for a, b in zip(starts, ends, strict=True))
