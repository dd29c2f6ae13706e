import dataclasses

import pytest

from dist_llm.config import ModelConfig
from dist_llm.measuring.flops import flops_per_token, mfu, multiplying_parameters
from dist_llm.measuring.peak import Peak
from dist_llm.model.llama import Llama

TINY = ModelConfig(dim=8, n_layers=1, n_heads=2, ffn_dim=12, max_seq_len=5)


def test_tied_model_by_hand():
    # q, k, v, o: 4 x 64; gate, up, down: 3 x 96; output projection: 10 x 8.
    assert multiplying_parameters(TINY, 10) == 256 + 288 + 80
    # Attention: 1 + 2 + 3 + 4 + 5 keys over 5 positions are 3 on average; scores and values are 2 products of
    # 2 x 8 operations per key; forward and backward are 3 times that: 3 x 3 x 2 x 16 = 288.
    assert flops_per_token(TINY, 10) == 6 * 624 + 288


def test_grouped_keys_cost_less_to_make_and_as_much_to_look_at():
    grouped = dataclasses.replace(TINY, n_kv_heads=1)
    assert multiplying_parameters(grouped, 10) == 624 - 2 * 32
    assert flops_per_token(grouped, 10) == 6 * 560 + 288


def test_an_untied_embedding_is_only_looked_up():
    untied = dataclasses.replace(TINY, tie_embeddings=False)
    assert flops_per_token(untied, 10) == flops_per_token(TINY, 10)


def test_every_tensor_is_counted_but_norms_and_a_looked_up_embedding():
    for config in (TINY, dataclasses.replace(TINY, n_layers=3, n_kv_heads=1, tie_embeddings=False)):
        sizes = {p.name: p.size for p in Llama(config, 10).params if len(p.shape) > 1}
        if not config.tie_embeddings:
            del sizes["model.embed_tokens.weight"]
        assert multiplying_parameters(config, 10) == sum(sizes.values())


def test_utilisation_is_of_the_best_peak():
    best = Peak.best([Peak(100.0, 370.0, 4), Peak(95.0, 380.0, 4)])
    assert best == Peak(100.0, 380.0, 4)
    # The peak of all four cores is less than four times that of one; of two hosts, it is twice that of one.
    assert [best.gflops(n) for n in (1, 2, 4, 8)] == [100, 200, 380, 760]
    assert Peak(100.0, 99.0, 1).gflops(2) == 200
    assert mfu([800.0, 400.0, 800.0], 1_000_000, best, 1).rounds == pytest.approx([0.008, 0.004, 0.008])
    assert mfu([800.0], 1_000_000, best, 4).median == pytest.approx(800 / 380_000)
