"""Mutate every kind of file that may come from elsewhere, ten thousand times, and count what comes of it.

    python -m tests.fuzz.mutate --n 10000
    python -m tests.fuzz.mutate --n 1000 --kinds state.json --seed 5

Each kind is read in a process of its own, with a limit on its memory and, for each file, on its time. The columns:

    refused        one line that says what is wrong
    equal          read as before: what has changed has no meaning
    other          read as another file, which nothing could tell: it has no checksum, or one that was computed anew
    damage         read as another file, though a checksum says otherwise
    failed         a traceback, a hang, or memory out of proportion; the first one is shown below the table
"""

import argparse
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from types import FrameType

import numpy as np

from dist_llm.errors import UserError
from tests.fuzz.kinds import Kind, make_kinds
from tests.fuzz.mutations import mutate

MEMORY_BYTES = 4 << 30  # of address space, of which a process at rest has one or two
HANGS_AFTER_S = 10
LONGEST_LINE = 2100  # characters


@dataclass
class Outcome:
    """What came of the mutations of one kind of file."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    growth_bytes: int = 0
    failure: str = ""


class HangError(BaseException):
    """A reader has not come to an end."""


def fuzz(name: str, n: int, seed: int) -> Outcome:
    """Mutate one kind of file `n` times."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _hang)
    outcome = Outcome(name)
    with tempfile.TemporaryDirectory() as folder:
        kind = next(kind for kind in make_kinds(Path(folder)) if kind.name == name)
        original, expected = kind.path.read_bytes(), kind.read()
        before = _peak_bytes()
        for i in range(n):
            mutation = mutate(original, np.random.default_rng((seed, i)))
            start = time.perf_counter()
            result = attempt(kind, original, mutation, expected)
            outcome.slowest_s = max(outcome.slowest_s, time.perf_counter() - start)
            word, _, failure = result.partition(":")
            outcome.counts[word] += 1
            if word in ("failed", "damage") and not outcome.failure:
                outcome.failure = f"{name}, mutation {i}: {failure or mutation[:300]!r}"
        outcome.growth_bytes = _peak_bytes() - before
    return outcome


def attempt(kind: Kind, original: bytes, mutation: bytes, expected: object) -> str:
    """Read a mutated file, and put the original back; return what came of it."""
    kind.path.write_bytes(mutation)
    if kind.sign:
        kind.sign()
    signal.alarm(HANGS_AFTER_S)
    try:
        found = kind.read()
    except UserError as error:
        is_line = str(error).isprintable() and len(str(error)) < LONGEST_LINE
        return "refused" if is_line else f"failed:not a line: {error}"
    except (Exception, HangError):
        return f"failed:{traceback.format_exc()}"
    finally:
        signal.alarm(0)
        kind.path.write_bytes(original)
        if kind.sign:
            kind.sign()
    return "equal" if found == expected else "damage" if kind.guarded else "other"


def _hang(_number: int, _frame: FrameType | None) -> None:
    raise HangError


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Mutate as the command line says, and print a table; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="mutations of each kind (default: 10000)")
    parser.add_argument("--kinds", nargs="*", default=[], help="parts of the names of those wanted (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = [kind.name for kind in make_kinds(Path(folder))]
    wanted = [name for name in names if not arguments.kinds or any(part in name for part in arguments.kinds)]
    columns = ("refused", "equal", "other", "damage", "failed")
    print(f"| {'file':<30} | {' | '.join(f'{word:>7}' for word in columns)} | slowest | growth |")
    print(f"| {'-' * 30} | {' | '.join('------:' for _ in columns)} | ------: | -----: |")
    outcomes = []
    # A process for each kind, so that the peaks of memory are its own.
    with ProcessPoolExecutor(arguments.processes, get_context("spawn"), max_tasks_per_child=1) as pool:
        for outcome in pool.map(fuzz, wanted, [arguments.n] * len(wanted), [arguments.seed] * len(wanted)):
            outcomes.append(outcome)
            counts = " | ".join(f"{outcome.counts[word]:>7,}" for word in columns)
            figures = f"{outcome.slowest_s:>5.2f} s | {outcome.growth_bytes / 1e6:>3.0f} MB"
            print(f"| {outcome.name:<30} | {counts} | {figures} |", flush=True)
    failures = [outcome.failure for outcome in outcomes if outcome.failure]
    print(*failures, sep="\n")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
