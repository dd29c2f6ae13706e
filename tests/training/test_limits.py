"""What no machine or text is large enough for is refused, and what is large enough is not."""

import tracemalloc

import numpy as np
import pytest

from dist_llm.config import Config
from dist_llm.errors import UserError
from dist_llm.model.llama import Llama
from dist_llm.seeding import generator
from dist_llm.training.limits import check_that_it_fits, sequence_bytes

GB = 10**9


def check(values=None, n_sequences=1000, ranks=1, ranks_here=1, there_bytes=8 * GB):
    config = Config().replace(values or {}).with_vocabulary(512)
    check_that_it_fits(config, n_sequences, ranks, ranks_here, there_bytes)


def test_the_default_fits():
    check()
    check(ranks=8, ranks_here=8)
    check({"train": {"batch_size": 16}}, n_sequences=1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": {"n_layers": 10**6}}, r"a model of 442,\S+ parameters needs 7,\d+ GB on every rank .*has 8 GB"),
        ({"model": {"dim": 2, "n_heads": 1, "ffn_dim": 1, "n_layers": 10**6}}, "choose a smaller .model."),
        ({"train": {"batch_size": 10**9}}, "a step would go through it 1,000,000 times; lower --train.batch_size"),
        ({"train": {"batch_size": 10**5, "micro_batch_size": 10**5}}, "100000 sequences at once .*micro_batch_size"),
    ],
)  # fmt: skip
def test_what_is_too_large_is_told(values, message):
    with pytest.raises(UserError, match=message):
        check(values)


def test_a_batch_that_no_memory_holds_is_told_even_where_the_text_is_large_enough():
    with pytest.raises(UserError, match=r"batch_size=1000000000 needs \S+ GB on every rank for the tokens of a step"):
        check({"train": {"batch_size": 10**9}}, n_sequences=10**9)


def test_ranks_of_one_host_share_its_memory():
    half = {"model": {"n_layers": 600}}  # 265 million parameters, 4.3 GB
    check(half)
    check(half, ranks=2, ranks_here=1)
    with pytest.raises(UserError, match=r"needs 4 GB on every rank .*the 2 ranks of this machine have 8 GB"):
        check(half, ranks=2, ranks_here=2)
    check({**half, "parallel": {"strategy": "sharded"}}, ranks=8, ranks_here=1)


def test_an_average_of_the_weights_takes_its_memory():
    # 442 million parameters, 7.1 GB
    nearly_all = {"model": {"n_layers": 1000, "max_seq_len": 16}, "train": {"micro_batch_size": 2}}
    check(nearly_all)
    with pytest.raises(UserError, match=r"a model of 442,\S+ parameters needs 9 GB"):
        check({**nearly_all, "optim": {"average": 0.99}})


@pytest.mark.parametrize(("recompute", "max_seq_len"), [(False, 64), (True, 64), (False, 1024), (True, 1024)])
def test_the_estimate_of_a_sequence_is_a_lower_bound(recompute, max_seq_len):
    """More is kept, but not many times more."""
    shape = {"max_seq_len": max_seq_len, "recompute": recompute}
    config = Config().replace({"model": shape}).with_vocabulary(512)
    model = Llama(config.model, 512)
    model.params.initialize(generator(1, "weights"))
    tokens = np.zeros((4, max_seq_len), np.int32)
    tracemalloc.start()
    _, cache = model.loss(tokens, tokens)
    model.loss_backward(1.0, cache)
    peak = tracemalloc.get_traced_memory()[1] / 4
    tracemalloc.stop()
    assert 0.2 * peak < sequence_bytes(config.model) < peak
