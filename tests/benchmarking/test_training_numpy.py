"""Our steps in the benchmark are those of training, with the micro-batches that are fastest."""

import pytest

from dist_llm.benchmarking import training_numpy
from dist_llm.benchmarking.turn import Job
from dist_llm.config import Config

SMALL = {"dim": 16, "n_layers": 1, "n_heads": 2, "ffn_dim": 24, "max_seq_len": 8, "vocab_size": 30}
CONFIG = Config().replace({"model": SMALL, "train": {"batch_size": 3}})


@pytest.mark.parametrize("fast", [1, 2])
def test_the_fastest_micro_batches_are_taken(monkeypatch, fast):
    tried = []

    def fastest(sizes, act, tries):
        for size in sizes:
            act(size)
            tried.append(size)
        return fast

    monkeypatch.setattr(training_numpy, "fastest", fastest)
    setup, turn = training_numpy.make(Job(CONFIG, 2, 1, 1, ""), choose=True)
    assert tried == [1, 2]  # four are more than there are
    assert setup.startswith(f"micro-batches of {fast}, ")
    answer = turn()
    assert (answer.amount, answer.steps) == (2 * 3 * 8, 2)


def test_without_a_choice_they_are_those_of_the_configuration():
    setup, _ = training_numpy.make(Job(CONFIG, 1, 1, 1, ""), {"parallel": {"strategy": "deterministic"}})
    assert setup.startswith("micro-batches of 2, ")
