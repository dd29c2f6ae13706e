"""The peak of the machine, as NumPy reaches it: float32 matrix products of a size at which nothing else counts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import ThreadpoolController

from dist_llm.seeding import generator

SIZE, PRODUCTS = 2048, 4
HOW = f"{SIZE} x {SIZE} float32, best of {PRODUCTS}"


@dataclass(frozen=True)
class Peak:
    """GFLOP/s on one core, and on all of them together, which is less than their number times that of one."""

    one_core: float
    all_cores: float
    cores: int

    def gflops(self, cores: int) -> float:
        """Return the peak of so many cores; if they are more, of several hosts like this one."""
        if cores < self.cores or self.cores == 1:
            return cores * self.one_core
        return self.all_cores * cores / self.cores

    @classmethod
    def best(cls, peaks: Sequence["Peak"]) -> "Peak":
        """Return the best of several measurements."""
        return cls(max(p.one_core for p in peaks), max(p.all_cores for p in peaks), peaks[0].cores)


def prepare_peak(cores: int) -> Callable[[], Peak]:
    """Return the function that measures once."""
    rng = generator(1, "sgemm")
    a, b = (rng.standard_normal((SIZE, SIZE), np.float32) for _ in range(2))
    out = np.empty_like(a)
    controller = ThreadpoolController().select(user_api="blas")

    def best(threads: int) -> float:
        seconds = []
        with controller.limit(limits=threads):
            for _ in range(PRODUCTS):
                start = time.perf_counter()
                np.matmul(a, b, out=out)
                seconds.append(time.perf_counter() - start)
        return 2 * SIZE**3 / min(seconds) / 1e9

    best(cores)  # warm
    return lambda: Peak(best(1), best(cores), cores)
