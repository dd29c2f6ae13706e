"""Who takes part and in what: the names on the command line, and what makes each of them."""

import importlib.util
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dist_llm.benchmarking import decoding, llama2c, tokenizing, training_jax, training_numpy, training_torch
from dist_llm.benchmarking.turn import Answer, Job, Warm
from dist_llm.config import Config
from dist_llm.errors import UserError, did_you_mean
from dist_llm.fast.selection import layers_of
from dist_llm.measuring.peak import HOW, prepare_peak
from dist_llm.parallel.registry import STRATEGIES

LONG_CONTEXT = 2048


@dataclass(frozen=True)
class Task:
    """Something to be done, the same for all its contestants."""

    title: str
    unit: str = "tokens/s"  # of the speed
    scale: float = 1.0  # so many of what is counted (tokens, bytes) make one of the unit


TASKS = {
    "step": Task("training step: forward, backward, reduction, clipping, AdamW"),
    "strategy": Task("training step by each strategy"),
    "long": Task(f"training step with a context of {LONG_CONTEXT:,} tokens"),
    "generation": Task("generation of one text, with a KV cache"),
    "bpe-training": Task("training of a byte-level BPE tokenizer", "MB/s", 1e6),
    "bpe-encoding": Task("encoding with it", "MB/s", 1e6),
}


# This project's ways to take a step: how their names begin, their model.precision, and what that is.
OURS = (
    ("numpy", "float32", "dist_llm"),
    ("compiled", "float32-compiled", "dist_llm's compiled layers"),
    ("bf16", "bfloat16", "dist_llm's compiled layers, bfloat16 products"),
)


@dataclass(frozen=True)
class Contestant:
    """One way to do a task, or `sgemm`, the measure of the machine."""

    name: str
    task: str  # key of TASKS; "peak" for sgemm
    processes: int
    threads: int  # in each process
    what: str  # for --list
    make: Callable[[Job], Warm]  # prepares and warms up what works in each process
    package: str = "dist_llm"  # what it needs to be installed
    by_mpirun: bool = False  # whether the processes are ranks of an MPI job
    precision: str = "float32"  # of matrix products, as model.precision has it

    def why_not(self, config: Config) -> str | None:
        """Return why it cannot take part here; None if it can."""
        if self.package == "llama2.c":
            return None if shutil.which(llama2c.COMPILE[0]) else "there is no gcc"
        if importlib.util.find_spec(self.package) is None:
            extra = "fast" if self.package == "numba" else "bench"
            return f"{self.package} is not installed (pip install 'dist_llm[{extra}]')"
        if self.package in ("torch", "jax") and config.model.dropout:
            return "the baselines' model has no dropout: compare without --model.dropout"
        if self.package == "dist_llm":
            try:
                layers_of(self.precision)
            except UserError as error:
                return str(error)
        return None


def contestants(cores: int, ranks: int, llama2c_source: Path | None = None) -> list[Contestant]:
    """Return all contestants, in the order of their turns: on so many cores, and those of several ranks on so many."""
    ours, torch = training_numpy.make, training_torch.make
    peak = Contestant("sgemm", "peak", 1, cores, "peak of float32 matrix products in NumPy, one core and all", _sgemm)
    everyone = [peak, *_our_steps(cores, ranks), *_torch_steps(cores, ranks)]
    compiled = "JAX, the whole step compiled, all cores"
    everyone.append(Contestant("jax-jit-all", "step", 1, cores, compiled, training_jax.make, "jax"))
    for name, entry in STRATEGIES.items():
        for dtype in dict.fromkeys((entry.reduce_dtypes[0], entry.reduce_dtypes[-1])):  # float32, and the fewest bits
            suffix = "" if dtype == "float32" else f"-{dtype}"
            make = partial(ours, changes={"parallel": {"strategy": name, "reduce_dtype": dtype}})
            what = f"dist_llm: {entry.summary}{f', in {dtype}' if suffix else ''}"
            everyone.append(Contestant(f"strategy-{name}{suffix}", "strategy", ranks, 1, what, make, by_mpirun=True))
    one, long = "dist_llm, one BLAS thread", partial(_long, make=torch)
    everyone += [
        Contestant("long-numpy", "long", 1, 1, one, partial(_long, make=ours)),
        Contestant("long-torch", "long", 1, 1, "PyTorch, one thread", long, "torch"),
        Contestant("generation-numpy", "generation", 1, 1, one, decoding.make_numpy),
        Contestant("generation-compiled", "generation", 1, 1, "dist_llm, compiled", decoding.make_compiled, "numba"),
        Contestant("generation-torch", "generation", 1, 1, "PyTorch, one thread", decoding.make_torch, "torch"),
    ]
    if llama2c_source is not None:
        make, what = partial(llama2c.make, source=llama2c_source), "llama2.c's run.c, compiled by gcc -Ofast"
        everyone.append(Contestant("generation-llama2c", "generation", 1, 1, what, make, "llama2.c"))
    if cores > 1:
        what = "PyTorch, threads on all cores"
        everyone.append(Contestant("generation-torch-all", "generation", 1, cores, what, decoding.make_torch, "torch"))
    for task, training in (("bpe-training", True), ("bpe-encoding", False)):
        python, rust = (partial(make, training=training) for make in (tokenizing.make_python, tokenizing.make_rust))
        everyone.append(Contestant(f"{task}-numpy", task, 1, 1, "dist_llm, in Python", python))
        everyone.append(Contestant(f"{task}-hf", task, 1, 1, "Hugging Face tokenizers, in Rust", rust, "tokenizers"))
    return everyone


def _our_steps(cores: int, ranks: int) -> Iterator[Contestant]:
    for prefix, precision, what in OURS:
        make = partial(training_numpy.make, changes={"model": {"precision": precision}})
        for suffix, processes, threads, how in (
            ("1x1", 1, 1, "one process, one thread"),
            ("1xALL", 1, cores, "one process, threads on all cores"),
            ("Nx1", ranks, 1, "ranks, one thread each"),
        ):
            c = Contestant(
                f"{prefix}-{suffix}", "step", processes, threads, f"{what}: {how}", make, precision=precision
            )
            yield replace(c, by_mpirun=suffix == "Nx1")


def _torch_steps(cores: int, ranks: int) -> Iterator[Contestant]:
    for bf16, eager, prefix, what in (
        (False, "eager-", "", "PyTorch"),
        (True, "bf16-", "bf16-", "PyTorch, autocast to bfloat16"),
    ):
        make = partial(training_torch.make, bf16=bf16)
        compile_ = partial(make, compiled=True)
        for name, processes, threads, how, way in (
            (f"{eager}1", 1, 1, "one thread", make),
            (f"{prefix}compile-1", 1, 1, "torch.compile, one thread", compile_),
            (f"{eager}all", 1, cores, "threads on all cores", make),
            (f"{prefix}compile-all", 1, cores, "torch.compile, threads on all cores", compile_),
            (f"{prefix}ddp-gloo", ranks, 1, "DistributedDataParallel over gloo", partial(make, ddp=True)),
            (
                f"{prefix}ddp-compile",
                ranks,
                1,
                "DistributedDataParallel over gloo, torch.compile",
                partial(compile_, ddp=True),
            ),
        ):
            c = Contestant(f"torch-{name}", "step", processes, threads, f"{what}, {how}", way, "torch")
            yield replace(c, precision="bfloat16" if bf16 else "float32")


def choose(everyone: Sequence[Contestant], only: str | None) -> list[Contestant]:
    """Return those that ``--only NAME,NAME`` names, a task standing for all its contestants; all without it."""
    if only is None:
        return list(everyone)
    names = [*dict.fromkeys(c.task for c in everyone), *(c.name for c in everyone)]
    wanted = [name.strip() for name in only.split(",")]
    for name in wanted:
        if name not in names:
            raise UserError(f"--only: unknown contestant {name!r}{did_you_mean(name, names)}")
    return [c for c in everyone if c.name in wanted or c.task in wanted]


def long_context(config: Config) -> Config:
    """Return the configuration of the task ``long``: two sequences, one at a time."""
    return config.replace({"model": {"max_seq_len": LONG_CONTEXT}, "train": {"batch_size": 2, "micro_batch_size": 1}})


def _long(job: Job, make: Callable[[Job], Warm]) -> Warm:
    return make(replace(job, config=long_context(job.config), steps=1))


def _sgemm(job: Job) -> Warm:
    measure = prepare_peak(job.threads)
    return HOW, lambda: Answer(peak=measure())
