from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dist_llm.config import Config
from dist_llm.data.loader import TokensInMemory
from dist_llm.data.preparation import Data
from dist_llm.model.llama import Llama
from dist_llm.parallel.comm import SerialComm
from dist_llm.parallel.placement import Placement, Seat, plan
from dist_llm.text import train_tokenizer
from dist_llm.training.startup_report import startup_report

DATA = Data(train_tokenizer("byte", [], 0), *(TokensInMemory(np.zeros(n, np.int32), "", n) for n in (100, 10)))


class Together(SerialComm):
    """Rank 0 of ranks that sit like this."""

    def __init__(self, placements: list[Placement]) -> None:
        super().__init__()
        self.placements, self.size = placements, len(placements)

    def allgather(self, value):
        return self.placements if isinstance(value, Placement) else [value] * self.size


def begun(config: Config, buckets: str = "") -> SimpleNamespace:
    """What a report says of a training step."""
    return SimpleNamespace(model=Llama(config.model, 256), strategy=SimpleNamespace(buckets=buckets))


def report(*seats: Seat, threads: int | None = None) -> list[str]:
    """The lines on ranks."""
    config = Config().replace(
        {"model": {"dim": 16, "n_layers": 1, "n_heads": 2, "ffn_dim": 24, "max_seq_len": 8, "vocab_size": 256}}
    )
    placements = plan(seats, threads)
    comm = Together(placements)
    text = startup_report(config, begun(config), DATA, Path("shards"), comm, placements[0])
    lines = text.splitlines()
    assert np.__version__ in lines[0]
    return lines[next(i for i, line in enumerate(lines) if line.startswith("ranks")) :]


def seat(host: str, *cpus: int, **quotas: float) -> Seat:
    return Seat(host, tuple((cpu,) for cpu in cpus), quotas)


def check(lines: list[str], *starts_and_ends: tuple[str, str]) -> None:
    assert len(lines) == len(starts_and_ends)
    for line, (start, end) in zip(lines, starts_and_ends, strict=True):
        assert line.startswith(start), line
        assert line.endswith(end), line


def test_one_rank():
    check(
        report(seat("box", 0, 1)),
        ("ranks    1 on 1 host; MPI: none", ""),
        ("         rank 0 on box, cores 0-1, 2 BLAS threads, memory ", " MB; threads: 2 usable cores / 1 rank"),
    )


def test_ranks_bound_by_us():
    check(
        report(*[seat("box", 0, 1, 2, 3)] * 2),
        ("ranks    2 on 1 host; MPI:", ""),
        (
            "         ranks 0-1 on box, cores 0-3 (2 each, bound by dist_llm), 2 BLAS threads each, memory ",
            " MB; threads: 4 usable cores / 2 ranks",
        ),
    )


def test_ranks_bound_by_the_launcher_on_several_hosts():
    seats = [seat(host, cpu) for cpu in (0, 1) for host in "ab"]
    own = " (1 each, bound by the launcher), 1 BLAS thread each, memory "
    check(
        report(*seats),
        ("ranks    4 on 2 hosts, 2 on each; MPI:", ""),
        (f"         ranks 0,2 on a, cores 0-1{own}", "threads: 1 usable core / 1 rank"),
        (f"         ranks 1,3 on b, cores 0-1{own}", "threads: 1 usable core / 1 rank"),
    )


def test_hosts_that_differ():
    lines = report(seat("a", 0, 1, 2), seat("a", 0, 1, 2), seat("b", 0))
    assert lines[0].startswith("ranks    3 on 2 hosts, 1 to 2 on each; MPI:")
    assert "ranks 0-1 on a, cores 0-2 (1-2 each, bound by dist_llm), 1 BLAS thread each" in lines[1]
    assert "rank 2 on b, core 0, 1 BLAS thread, " in lines[2]


@pytest.mark.parametrize(
    ("micro_batch_size", "said"), [(None, "2 at a time, chosen for the model"), (3, "3 at a time")]
)
def test_how_many_sequences_are_worked_on_at_once(micro_batch_size, said):
    config = Config().replace({"model": {"vocab_size": 256}, "train": {"micro_batch_size": micro_batch_size}})
    placements = plan([seat("box", 0)], None)
    text = startup_report(config, begun(config), DATA, Path("shards"), Together(placements), placements[0])
    assert next(line for line in text.splitlines() if line.startswith("steps")).endswith(f"per rank, {said}")


@pytest.mark.parametrize("ranks", [1, 2])
def test_how_the_gradient_is_divided_among_ranks(ranks):
    config = Config().replace({"model": {"vocab_size": 256}})
    placements = plan([seat("box", 0, 1)] * ranks, None)
    step, comm = begun(config, "18 of 512 KiB, chosen for the test"), Together(placements)
    lines = startup_report(config, step, DATA, Path("shards"), comm, placements[0]).splitlines()
    assert ("buckets  18 of 512 KiB, chosen for the test" in lines) == (ranks > 1)


def test_different_blas_libraries_are_named():
    placements = [Placement("a", (0,), 1, "openblas 0.3"), Placement("b", (0,), 1, "mkl 2025")]
    config = Config().replace({"model": {"vocab_size": 256}})
    tiny = Config().replace({"model": {"dim": 16, "n_layers": 1, "n_heads": 2, "ffn_dim": 24, "vocab_size": 256}})
    text = startup_report(config, begun(tiny), DATA, Path("shards"), Together(placements), placements[0])
    assert text.splitlines()[0].endswith("openblas 0.3 and mkl 2025")


@pytest.mark.parametrize(
    ("ranks", "threads", "quotas", "how", "warning"),
    [
        (3, None, {}, "(shared, not bound), 1 BLAS thread each",
         "warning: box: 3 threads of 3 ranks take turns (2 usable cores): start at most 2 ranks there"),
        (1, 4, {}, ", 4 BLAS threads,",
         "warning: box: 4 threads of 1 rank take turns (2 usable cores): --parallel.threads=2 would be faster"),
        (2, None, {"job": 1.5}, "(1 each, bound by dist_llm, cgroup quota of 1.5), 1 BLAS thread each",
         "warning: box: 2 threads of 2 ranks take turns (cgroup quota of 1.5 CPUs): start at most 1 rank there"),
    ],
)  # fmt: skip
def test_too_many_ranks_or_threads(ranks, threads, quotas, how, warning):
    lines = report(*[seat("box", 0, 1, **quotas)] * ranks, threads=threads)
    assert how in lines[1]
    assert lines[2:] == [warning]


def test_a_warning_of_several_hosts_is_one_line():
    lines = report(seat("a", 0), seat("a", 0), seat("b", 3), seat("b", 3))
    assert [line for line in lines if line.startswith("warning:")] == [
        "warning: a, b: 2 threads of 2 ranks take turns (1 usable core): start at most 1 rank there"
    ]


def test_the_user_decides():
    assert report(seat("box", 0, 1), threads=1)[1].endswith("threads: as --parallel.threads says")
