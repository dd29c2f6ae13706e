"""What a run says about itself before its first step."""

import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dist_llm import __version__
from dist_llm.config import Config
from dist_llm.data.preparation import Data
from dist_llm.model.micro_batch import micro_batch_size
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import Placement, memory_bytes
from dist_llm.training.step import TrainStep

_LAYERS = {
    "float32": "NumPy's, products of float32 numbers",
    "float32-compiled": "compiled, products of float32 numbers",
    "bfloat16": "compiled, products of bfloat16 numbers",
}


def startup_report(
    config: Config,
    step: TrainStep,
    data: Data,
    shards: Path,
    comm: Comm,
    placement: Placement,
    received: Sequence[int] = (),
) -> str:
    """Return the report, the same on every rank; a collective call.

    Parameters
    ----------
    shards : Path
        Folder of the tokens.
    placement : Placement
        Placement of this rank.
    received : sequence of int
        The ranks that were sent the tokens.
    """
    c, t, model = config.model, config.train, step.model
    placements = comm.allgather(placement)
    memory = comm.allgather(memory_bytes())
    ranks_of_host = Counter(p.host for p in placements)
    n_hosts, fewest, most = len(ranks_of_host), min(ranks_of_host.values()), max(ranks_of_host.values())
    per_host = f", {fewest if fewest == most else f'{fewest} to {most}'} on each" if n_hosts > 1 else ""
    blas = " and ".join(dict.fromkeys(p.blas for p in placements))
    tokens_per_step = t.batch_size * c.max_seq_len
    per_rank = -(-t.batch_size // comm.size)
    kv = f" ({c.n_kv_heads} for keys and values)" if c.n_kv_heads not in (None, c.n_heads) else ""
    lines = [
        f"dist_llm {__version__}, Python {platform.python_version()}, NumPy {np.__version__}, {blas}",
        f"model    {model.params.size:,} parameters: dim {c.dim}, {_count(c.n_layers, 'layer')}, "
        f"{_count(c.n_heads, 'head')}{kv}, ffn {c.ffn_dim}, vocabulary {model.vocab_size}, context {c.max_seq_len}",
        f"layers   {_LAYERS[c.precision]}",
        f"data     {config.data.path or config.data.corpus}, {config.data.tokenizer} tokens: "
        f"{len(data.train):,} to train on, {len(data.val):,} to validate ({shards})",
        f"steps    {t.max_steps:,} x {_count(t.batch_size, 'sequence')} x {_count(c.max_seq_len, 'token')} = "
        f"{t.max_steps * tokens_per_step:,} tokens; at most {_count(per_rank, 'sequence')} per rank, "
        f"{min(per_rank, micro_batch_size(config))} at a time{', chosen for the model' * (t.micro_batch_size is None)}",
        f"evals    {_evaluations(config, data)}",
        f"ranks    {comm.size} on {_count(n_hosts, 'host')}{per_host}; MPI: {comm.mpi_version}"
        + f"; strategy: {config.parallel.strategy}" * (comm.size > 1),
    ]
    alike: dict[Placement, list[int]] = {}
    for rank, p in enumerate(placements):
        alike.setdefault(replace(p, cores=()), []).append(rank)
    for ranks in alike.values():
        sizes = ", ".join(f"{memory[rank] / 1e6:.0f}" for rank in ranks)
        seats = _seats([placements[rank] for rank in ranks], ranks)
        lines.append(f"         {seats}, memory {sizes} MB; threads: {placements[ranks[0]].why}")
    if step.strategy.buckets and comm.size > 1:
        lines.append(f"buckets  {step.strategy.buckets}")
    hosts_of_warning: dict[str, dict[str, None]] = {}
    for p in placements:
        if p.warning:
            hosts_of_warning.setdefault(p.warning, {})[p.host] = None
    lines += [f"warning: {', '.join(hosts)}: {warning}" for warning, hosts in hosts_of_warning.items()]
    if received:
        sent_to = ", ".join(map(str, received))
        lines.append(f"         no shards where rank {sent_to} runs: rank 0 sent the tokens")
    return "\n".join(lines)


def _evaluations(config: Config, data: Data) -> str:
    """Say what evaluations cost: a forward pass takes a third of the time of a step on the same tokens."""
    train, seq_len, n_val = config.train, config.model.max_seq_len, len(data.val) - 1
    if not train.eval_interval:
        return f"at the end only, on {n_val:,} tokens"
    n = min(train.eval_tokens or n_val, n_val)
    cost = n / (n + 3 * train.eval_interval * train.batch_size * seq_len)
    whole = f", and of all {n_val:,} at the end" if n < n_val else ""
    return f"of {n:,} tokens every {_count(train.eval_interval, 'step')}, about {cost:.0%} of the time{whole}"


def _seats(placements: Sequence[Placement], ranks: Sequence[int]) -> str:
    """Say where ranks sit that differ in their cores at most, and with how many threads."""
    p, several = placements[0], len(ranks) > 1
    cores = {core for placement in placements for core in placement.cores}
    sizes = [len(placement.cores) for placement in placements]
    remarks = []
    if several:
        own = len({placement.cores for placement in placements}) > 1
        size = str(sizes[0]) if min(sizes) == max(sizes) else f"{min(sizes)}-{max(sizes)}"
        remarks.append(f"{size} each" if own else "shared")
    if p.bound_by:
        remarks.append(f"bound by {'the launcher' if p.bound_by == 'launcher' else p.bound_by}")
    elif several:
        remarks.append("not bound")
    if p.quota is not None:
        remarks.append(f"cgroup quota of {p.quota:g}")
    how = f" ({', '.join(remarks)})" if remarks else ""
    return (
        f"{'ranks' if several else 'rank'} {_ranges(ranks)} on {p.host}, "
        f"{'cores' if len(cores) > 1 else 'core'} {_ranges(cores)}{how}, "
        f"{_count(p.threads, 'BLAS thread')}{' each' * several}"
    )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _ranges(numbers: Iterable[int]) -> str:
    """(0, 1, 2, 5) -> "0-2,5"."""
    numbers = set(numbers)
    starts = sorted(n for n in numbers if n - 1 not in numbers)
    ends = sorted(n for n in numbers if n + 1 not in numbers)
    return ",".join(f"{a}-{b}" if a < b else str(a) for a, b in zip(starts, ends, strict=True))
