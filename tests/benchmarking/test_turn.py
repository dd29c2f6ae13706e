"""How a way is chosen, and the memory of those that were not is forgotten."""

import sys

import pytest

from dist_llm.benchmarking.turn import fastest, tries
from dist_llm.config import Config

FORGET = """
import numpy as np
from dist_llm.benchmarking.turn import forget_memory
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.placement import peak_memory_bytes
keep_freed_memory()
before = peak_memory_bytes()
a = np.ones(40_000_000)
del a
assert peak_memory_bytes() > before + 300e6
forget_memory()
assert peak_memory_bytes() < before + 50e6
"""


def test_the_fastest_way_and_not_by_its_first_turn(monkeypatch):
    now = [0.0]
    seconds = {"compiled": iter([9.0, 1.0, 1.0]), "plain": iter([2.0, 2.0, 2.0])}
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def act(way: str) -> None:
        now[0] += next(seconds[way])

    assert fastest(["plain", "compiled"], act, 2) == "compiled"


def test_a_single_way_is_not_tried():
    assert fastest(["only"], lambda _: pytest.fail("tried")) == "only"


def test_long_steps_are_tried_once():
    config = Config().replace({"model": {"vocab_size": 512}, "train": {"batch_size": 16}})
    assert tries(config) == 3
    assert tries(config.replace({"model": {"dim": 768, "n_layers": 12, "n_heads": 12}})) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="others cannot forget")
def test_memory_of_what_was_tried_is_forgotten(run):
    result = run(0, "-c", FORGET)
    assert (result.returncode, result.stderr) == (0, "")
