"""Our steps in the benchmark are those of training."""

from dist_llm.benchmarking import training_numpy
from dist_llm.benchmarking.turn import Job
from dist_llm.config import Config

SMALL = {"dim": 16, "n_layers": 1, "n_heads": 2, "ffn_dim": 24, "max_seq_len": 8, "vocab_size": 30}
CONFIG = Config().replace({"model": SMALL, "train": {"batch_size": 3}})


def test_a_turn_takes_the_steps_that_are_asked_for():
    setup, turn = training_numpy.make(Job(CONFIG.replace({"train": {"micro_batch_size": 2}}), 2, 1, 1, ""))
    assert setup.startswith("micro-batches of 2, ")
    answer = turn()
    assert (answer.amount, answer.steps) == (2 * 3 * 8, 2)


def test_micro_batches_are_those_that_training_chooses():
    setup, _ = training_numpy.make(Job(CONFIG, 1, 1, 1, ""), {"parallel": {"strategy": "deterministic"}})
    assert setup.startswith("micro-batches of 1, ")
