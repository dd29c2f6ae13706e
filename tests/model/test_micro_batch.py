"""How many sequences are worked on at once."""

import numpy as np
import pytest

from dist_llm.config import Config
from dist_llm.model.loss_head import LossHead
from dist_llm.model.micro_batch import micro_batch_size
from dist_llm.model.params import Param


def size(vocab_size: int = 512, max_seq_len: int = 256, batch_size: int = 16, **parallel: str) -> int:
    config = Config().replace(
        {
            "model": {"vocab_size": vocab_size, "max_seq_len": max_seq_len},
            "train": {"batch_size": batch_size},
            "parallel": parallel,
        }
    )
    chosen = micro_batch_size(config)
    assert micro_batch_size(config.replace({"train": {"micro_batch_size": 3}})) == 3
    return chosen


@pytest.mark.parametrize(
    ("vocab_size", "max_seq_len", "expected"),
    [
        (512, 256, 2),  # the default
        (512, 64, 8),
        (2048, 128, 4),
        (512, 1024, 1),
        (32000, 256, 2),
        (32000, 1024, 1),
        (128_256, 256, 1),  # two would have more logits than the loss head keeps
        (128_256, 64, 4),
        (10**9, 4096, 1),
    ],
)
def test_it_is_chosen_for_the_shape(vocab_size, max_seq_len, expected):
    assert size(vocab_size, max_seq_len) == expected


def test_where_whole_ones_are_dealt_out_there_are_some_for_each_rank():
    assert size(max_seq_len=8) == 64
    assert size(max_seq_len=8, strategy="deterministic") == 2
    assert size(max_seq_len=8, batch_size=96, strategy="deterministic") == 12
    assert size(max_seq_len=8, batch_size=3, strategy="deterministic") == 1
    assert size(strategy="deterministic") == 2


@pytest.mark.parametrize("vocab_size", [2**16, 2**16 + 1, 2**17, 2**17 + 1])
def test_logits_are_those_the_loss_head_keeps(vocab_size):
    """As many sequences as have theirs in one chunk, and no more, as far as there are 512 tokens."""
    head, rows = LossHead(Param("", (vocab_size, 8), 0, "head", 1.0)), size(vocab_size, 64) * 64
    assert len(head._chunks(np.empty((rows, 8), np.float32))) == 1
    assert rows == 512 or len(head._chunks(np.empty((rows + 64, 8), np.float32))) == 2
