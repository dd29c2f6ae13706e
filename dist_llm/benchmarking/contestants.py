"""Who takes part and in what: the names on the command line, and what each stands for on this machine."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from dist_llm.config import Config
from dist_llm.errors import UserError

LONG_CONTEXT = 2048


@dataclass(frozen=True)
class Task:
    """Something to be done, the same for all its contestants.

    Attributes
    ----------
    title : str
    unit : str
        Of the speed.
    scale : float
        Of what is counted (tokens, bytes), so many make one of the unit.
    """

    title: str
    unit: str = "tokens/s"
    scale: float = 1.0


TASKS = {
    "step": Task("training step: forward, backward, reduction, clipping, AdamW"),
    "reduction": Task("training step by each way of reduction"),
    "long": Task(f"training step with a context of {LONG_CONTEXT:,} tokens"),
    "generation": Task("generation of one text, with a KV cache"),
    "bpe-training": Task("training of a byte-level BPE tokenizer", "MB/s", 1e6),
    "bpe-encoding": Task("encoding with it", "MB/s", 1e6),
}


REDUCTIONS = {
    "blocking": "one all-reduce after the backward pass",
    "overlapped": "buckets beside it",
    "deterministic": "the same bits for any number of ranks",
    "sharded": "each rank a share of the optimizer",
    "local": "ranks by themselves, meeting every so many steps",
    "blocking bfloat16": "the all-reduce in 16 bits",
    "local int8": "local steps, the changes in 8 bits",
}


@dataclass(frozen=True)
class Contestant:
    """One way to do a task, or `sgemm`, the measure of the machine.

    Attributes
    ----------
    name : str
    task : str
        Key of TASKS; ``peak`` for sgemm.
    kind : str
        ``numpy`` (this project), ``torch``, ``jax``, ``huggingface`` or ``sgemm``: who does it.
    processes, threads : int
        How many processes, and threads in each.
    what : str
        For --list.
    variant : str
        Which way of PyTorch: ``eager``, ``compile``, ``bf16`` or ``ddp``; or of reduction, and what is sent:
        ``local int8``.
    by_mpirun : bool
        Whether the processes are ranks of an MPI job.
    """

    name: str
    task: str
    kind: str
    processes: int
    threads: int
    what: str
    variant: str = ""
    by_mpirun: bool = False


def contestants(cores: int, ranks: int) -> list[Contestant]:
    """Return all contestants, in the order of their turns.

    Parameters
    ----------
    cores : int
        Usable cores of this machine.
    ranks : int
        Processes of the contestants that have several.
    """
    everyone = [
        Contestant("sgemm", "peak", "sgemm", 1, cores, "peak of float32 matrix products in NumPy, one core and all"),
        Contestant("numpy-1x1", "step", "numpy", 1, 1, "dist_llm: one process, one BLAS thread"),
        Contestant("numpy-1xALL", "step", "numpy", 1, cores, "dist_llm: one process, BLAS threads on all cores"),
        Contestant(
            "numpy-Nx1", "step", "numpy", ranks, 1, "dist_llm: ranks under mpirun, one BLAS thread each", by_mpirun=True
        ),
        Contestant("torch-eager-1", "step", "torch", 1, 1, "PyTorch, one thread", "eager"),
        Contestant("torch-eager-all", "step", "torch", 1, cores, "PyTorch, threads on all cores", "eager"),
        Contestant("torch-compile-all", "step", "torch", 1, cores, "PyTorch with torch.compile, all cores", "compile"),
        Contestant("torch-ddp-gloo", "step", "torch", ranks, 1, "PyTorch's DistributedDataParallel over gloo", "ddp"),
        Contestant("torch-bf16-all", "step", "torch", 1, cores, "PyTorch, autocast to bfloat16, all cores", "bf16"),
        Contestant("jax-jit-all", "step", "jax", 1, cores, "JAX, the whole step compiled, all cores"),
        *(
            Contestant(
                f"reduction-{way.replace(' ', '-')}", "reduction", "numpy", ranks, 1, f"dist_llm: {what}", way, True
            )
            for way, what in REDUCTIONS.items()
        ),
        Contestant("long-numpy", "long", "numpy", 1, 1, "dist_llm, one BLAS thread"),
        Contestant("long-torch", "long", "torch", 1, 1, "PyTorch, one thread", "eager"),
        Contestant("generation-numpy", "generation", "numpy", 1, 1, "dist_llm, one BLAS thread"),
        Contestant("generation-torch", "generation", "torch", 1, 1, "PyTorch, one thread"),
        Contestant("generation-torch-all", "generation", "torch", 1, cores, "PyTorch, threads on all cores"),
        Contestant("bpe-training-numpy", "bpe-training", "numpy", 1, 1, "dist_llm, in Python"),
        Contestant("bpe-training-hf", "bpe-training", "huggingface", 1, 1, "Hugging Face tokenizers, in Rust"),
        Contestant("bpe-encoding-numpy", "bpe-encoding", "numpy", 1, 1, "dist_llm, in Python"),
        Contestant("bpe-encoding-hf", "bpe-encoding", "huggingface", 1, 1, "Hugging Face tokenizers, in Rust"),
    ]
    # On a single core, "all" is what "1" is.
    return [c for c in everyone if cores > 1 or c.name != "generation-torch-all"]


def choose(everyone: Sequence[Contestant], only: str | None) -> list[Contestant]:
    """Return those that ``--only NAME,NAME`` names, a task standing for all its contestants; all without it.

    Raises
    ------
    UserError
        There is no contestant of such a name.
    """
    if only is None:
        return list(everyone)
    names = [*dict.fromkeys(c.task for c in everyone), *(c.name for c in everyone)]
    wanted = [name.strip() for name in only.split(",")]
    for name in wanted:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
            raise UserError(f"--only: unknown contestant {name!r}; {hint}")
    return [c for c in everyone if c.name in wanted or c.task in wanted]


def long_context(config: Config) -> Config:
    """Return the configuration of the task ``long``: two sequences, one at a time."""
    return config.replace({"model": {"max_seq_len": LONG_CONTEXT}, "train": {"batch_size": 2, "micro_batch_size": 1}})
