"""What an efficiency is made of: the factors of the POP project (Performance Optimisation and Productivity).

    global efficiency        = parallel efficiency x computation scaling
    parallel efficiency      = load balance x communication efficiency
    communication efficiency = serialisation x transfer

With u the time that a rank computes, T that of the run, and w the least that any rank waits for data when all have come
(on an instant network the run would have taken T - w):

    load balance  = mean u / max u        serialisation = max u / (T - w)        transfer = (T - w) / T

Computation scaling is the reference's core-seconds of computing for a sequence over the point's: below 1, where cores
take memory bandwidth, cache or frequency from each other, or where arithmetic is done more than once. The threads of a
rank count as computing with it, so what they lose among themselves is in it too. Where the processor's counters can
be read, it falls apart in turn, each factor the reference's figure over the point's, or the other way round:

    computation scaling = instructions (for a sequence) x instructions per cycle x frequency (cycles per core-second)

Wagner, Mohr, Gimenez and Labarta (2018), A structured approach to performance analysis, Tools for HPC 2017, Springer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from statistics import fmean

from dist_llm.measuring.spread import Spread
from dist_llm.scalability.runs import Run

AGREES = 0.01  # relative error of the product that is rounding and noise


@dataclass(frozen=True)
class Processor:
    """What computation scaling is made of."""

    instructions_scaling: Spread
    ipc_scaling: Spread
    frequency_scaling: Spread
    counted_share: float  # the least of a run: the rest of the counts is extrapolated


@dataclass(frozen=True)
class Factors:
    """Of a point, the median and the interval of each over the rounds."""

    global_efficiency: Spread
    parallel_efficiency: Spread
    load_balance: Spread
    communication_efficiency: Spread
    serialisation: Spread
    transfer: Spread
    computation_scaling: Spread
    processor: Processor | str  # or why it is not known
    product_error: float  # relative: of the product of the smallest factors' medians, against the measured efficiency

    @property
    def agrees(self) -> bool:
        """Whether the factors multiply to the efficiency: medians need not, where rounds differ much."""
        return abs(self.product_error) <= AGREES


def factors(rounds: Mapping[int, Run], reference: Mapping[int, Run]) -> Factors | None:
    """Return the factors of a point, from its runs and those of the reference; None without a round with both."""
    both = sorted(rounds.keys() & reference.keys())
    if not both:
        return None
    found = [_of_round(rounds[r], reference[r]) for r in both]
    spreads = {name: Spread.of(one[name] for one in found) for name in found[0]}
    smallest = ("load_balance", "serialisation", "transfer", "computation_scaling")
    product = prod(spreads[name].median for name in smallest)
    # Measured is the speed per core relative to the reference's, which on several ranks does not compute all the time.
    measured = Spread.of(_speed(rounds[r]) / _speed(reference[r]) * _parallel(reference[r]) for r in both)
    processor = _processor([(rounds[r], reference[r]) for r in both])
    return Factors(**spreads, processor=processor, product_error=product / measured.median - 1)


def _processor(pairs: Sequence[tuple[Run, Run]]) -> Processor | str:
    """Return the factors of computation scaling, from the runs of a point and of the reference by rounds."""
    found = []
    for run, reference in pairs:
        here, there = _counted(run), _counted(reference)
        if isinstance(here, str) or isinstance(there, str):
            return here if isinstance(here, str) else str(there)
        found.append((there[0] / here[0], here[1] / there[1], here[2] / there[2], min(here[3], there[3])))
    instructions, ipc, frequency, shares = zip(*found, strict=True)
    return Processor(Spread.of(instructions), Spread.of(ipc), Spread.of(frequency), min(shares))


def _counted(run: Run) -> tuple[float, float, float, float] | str:
    """Return instructions for a sequence, instructions per cycle, cycles per core-second, and the share counted."""
    instructions = cycles = core_s = 0.0
    shares = []
    for rank in run.ranks:
        if isinstance(rank.counts, str):
            return rank.counts
        instructions += rank.counts.instructions
        cycles += rank.counts.cycles
        core_s += rank.counted_s * rank.placement.threads
        shares.append(rank.counts.counted_share)
    sequences = run.batch_size * (run.steps + run.warm_up_steps)  # they are counted from the first step on
    return instructions / sequences, instructions / cycles, cycles / core_s, min(shares)


def _of_round(run: Run, reference: Run) -> dict[str, float]:
    useful, total_s = [rank.useful_s for rank in run.ranks], run.seconds
    instant_s = total_s - min(rank.seconds["communication"] for rank in run.ranks)
    scaling = _core_seconds(reference) / _core_seconds(run)
    return {
        "global_efficiency": _parallel(run) * scaling,
        "parallel_efficiency": _parallel(run),
        "load_balance": fmean(useful) / max(useful),
        "communication_efficiency": max(useful) / total_s,
        "serialisation": max(useful) / instant_s,
        "transfer": instant_s / total_s,
        "computation_scaling": scaling,
    }


def _parallel(run: Run) -> float:
    return fmean(rank.useful_s for rank in run.ranks) / run.seconds


def _core_seconds(run: Run) -> float:
    """Return the core-seconds of computing that a sequence takes."""
    return sum(rank.useful_s * rank.placement.threads for rank in run.ranks) / (run.batch_size * run.steps)


def _speed(run: Run) -> float:
    """Return sequences per second and core."""
    return run.batch_size * run.steps / run.seconds / sum(rank.placement.threads for rank in run.ranks)
