"""The peak of the machine, as NumPy reaches it: float32 matrix products of a size at which nothing else counts."""

import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import ThreadpoolController

from dist_llm.seeding import generator

SIZE, PRODUCTS = 2048, 4


def prepare(cores: int) -> tuple[str, Callable[[], dict[str, float]]]:
    """Return how it is measured, and the function that measures once, in GFLOP/s."""
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

    def turn() -> dict[str, float]:
        return {"one_core_gflops": best(1), "all_cores_gflops": best(cores)}

    turn()
    return f"{SIZE} x {SIZE} float32, best of {PRODUCTS}", turn
