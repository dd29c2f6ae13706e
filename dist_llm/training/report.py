"""What a run says about itself before its first step."""

import platform
from pathlib import Path

import numpy as np
import psutil

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
    ranks = comm.gather((platform.node(), placement, memory_bytes()))
    hosts = sorted({host for host, _, _ in ranks})
    c, t = config.model, config.train
    tokens_per_step = t.batch_size * c.max_seq_len
    kv = f" ({c.n_kv_heads} for keys and values)" if c.n_kv_heads not in (None, c.n_heads) else ""
    per_rank = -(-t.batch_size // comm.size)
    lines = [
        f"dist_llm {__version__}, Python {platform.python_version()}, NumPy {np.__version__}",
        f"model    {model.params.size:,} parameters: dim {c.dim}, {c.n_layers} layers, {c.n_heads} heads{kv}, "
        f"ffn {c.ffn_dim}, vocabulary {model.vocab_size}, context {c.max_seq_len}",
        f"data     {config.data.path or config.data.corpus}, {config.data.tokenizer} tokens: "
        f"{n_train:,} to train on, {n_val:,} to validate ({shards})",
        f"steps    {t.max_steps:,} x {t.batch_size} sequences x {c.max_seq_len} = "
        f"{t.max_steps * tokens_per_step:,} tokens; at most {per_rank} sequences per rank, "
        f"{min(per_rank, t.micro_batch_size)} at a time",
        f"ranks    {comm.size} on {len(hosts)} host{'s' * (len(hosts) > 1)}; MPI: {comm.library}",
    ]
    for host in hosts:
        here = [(p, memory) for name, p, memory in ranks if name == host]
        cores, threads = here[0][0].cores, sum(p.threads for p, _ in here)
        usable = f"{cores} of {psutil.cpu_count()} cores usable" if host == platform.node() else f"{cores} cores usable"
        lines.append(
            f"host     {host}: {len(here)} rank{'s' * (len(here) > 1)} x {here[0][0].threads} BLAS "
            f"thread{'s' * (here[0][0].threads > 1)} ({here[0][0].blas}), {usable}"
            f"{' by each rank' * (not here[0][0].shared and len(here) > 1)}, "
            f"memory {', '.join(f'{memory / 1e6:.0f}' for _, memory in here)} MB"
        )
        if here[0][0].shared and threads > cores:
            lines.append(f"         more threads than cores: the {len(here)} ranks take turns on {cores} cores")
    return "\n".join(lines)
