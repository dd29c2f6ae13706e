import pytest

from dist_llm.benchmarking.decoding import fill, our_decoder, torch_decoders
from dist_llm.config import ModelConfig
from dist_llm.model.llama import Llama
from dist_llm.seeding import generator


@pytest.mark.parametrize("n_kv_heads", [4, 2])
@pytest.mark.parametrize("tied", [True, False])
def test_the_baseline_generates_what_ours_does(n_kv_heads, tied):
    pytest.importorskip("torch")
    config = ModelConfig(
        dim=32, n_layers=2, n_heads=4, n_kv_heads=n_kv_heads, ffn_dim=40, max_seq_len=24, tie_embeddings=tied,
        init_std=0.3,
    )  # fmt: skip
    model = Llama(config, 50)
    model.params.initialize(generator(3, "weights"))
    baseline = fill(torch_decoders(model)(), config.max_seq_len)
    assert baseline == fill(our_decoder(model), config.max_seq_len)
    assert len(set(baseline)) > 5
