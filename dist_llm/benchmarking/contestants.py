"""Who takes part: the names on the command line, and what each stands for on this machine."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from dist_llm.errors import UserError


@dataclass(frozen=True)
class Contestant:
    """One way to train the model, or `sgemm`, the measure of the machine.

    Attributes
    ----------
    name : str
    kind : str
        ``numpy``, ``torch`` or ``sgemm``: which worker does it.
    processes, threads : int
        How many processes, and threads in each.
    what : str
        For --list.
    variant : str
        Which way of PyTorch: ``eager``, ``compile``, ``bf16`` or ``ddp``.
    """

    name: str
    kind: str
    processes: int
    threads: int
    what: str
    variant: str = ""

    @property
    def by_mpirun(self) -> bool:
        """Whether the processes are ranks of an MPI job."""
        return self.name == "numpy-Nx1"


def contestants(cores: int, ranks: int) -> list[Contestant]:
    """Return all contestants, in the order of their turns.

    Parameters
    ----------
    cores : int
        Usable cores of this machine.
    ranks : int
        Processes of the contestants that have several.
    """
    return [
        Contestant("sgemm", "sgemm", 1, cores, "peak of float32 matrix products in NumPy, on one core and on all"),
        Contestant("numpy-1x1", "numpy", 1, 1, "dist_llm: one process, one BLAS thread"),
        Contestant("numpy-1xALL", "numpy", 1, cores, "dist_llm: one process, BLAS threads on all cores"),
        Contestant("numpy-Nx1", "numpy", ranks, 1, "dist_llm: ranks under mpirun, one BLAS thread each"),
        Contestant("torch-eager-1", "torch", 1, 1, "PyTorch, one thread", "eager"),
        Contestant("torch-eager-all", "torch", 1, cores, "PyTorch, threads on all cores", "eager"),
        Contestant("torch-compile-all", "torch", 1, cores, "PyTorch with torch.compile, all cores", "compile"),
        Contestant("torch-ddp-gloo", "torch", ranks, 1, "PyTorch's DistributedDataParallel over gloo", "ddp"),
        Contestant("torch-bf16-all", "torch", 1, cores, "PyTorch, autocast to bfloat16, all cores", "bf16"),
    ]


def choose(everyone: Sequence[Contestant], only: str | None) -> list[Contestant]:
    """Return those that ``--only NAME,NAME`` names; all of them without it.

    Raises
    ------
    UserError
        There is no contestant of such a name.
    """
    if only is None:
        return list(everyone)
    names = [c.name for c in everyone]
    wanted = [name.strip() for name in only.split(",")]
    for name in wanted:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
            raise UserError(f"--only: unknown contestant {name!r}; {hint}")
    return [c for c in everyone if c.name in wanted]
