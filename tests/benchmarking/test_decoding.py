import pytest

from dist_llm.benchmarking.decoding import TorchDecoder
from dist_llm.config import ModelConfig
from dist_llm.inference.kv_cache import new_kv_cache
from dist_llm.model.llama import Llama
from dist_llm.seeding import generator

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("n_kv_heads", [4, 2])
@pytest.mark.parametrize("tied", [True, False])
def test_the_baseline_generates_what_ours_does(n_kv_heads, tied):
    config = ModelConfig(
        dim=32, n_layers=2, n_heads=4, n_kv_heads=n_kv_heads, ffn_dim=40, max_seq_len=24, tie_embeddings=tied,
        init_std=0.3,
    )  # fmt: skip
    model = Llama(config, 50)
    model.params.initialize(generator(3, "weights"))
    baseline = TorchDecoder(model).fill()
    cache, tokens = new_kv_cache(model), baseline[:1]
    for position in range(len(baseline) - 1):
        logits = model.decode(torch.tensor([[tokens[-1]]]).numpy(), position, cache)
        tokens.append(int(logits[0].argmax()))
    assert tokens == baseline
    assert len(set(baseline)) > 5
