"""A GGUF file holds the model, read back by the gguf package."""

import warnings

import numpy as np
import pytest

from dist_llm.config import ModelConfig
from dist_llm.errors import UserError
from dist_llm.interop.export import export
from dist_llm.model.llama import Llama
from dist_llm.text import train_tokenizer
from tests.text.samples import PROSE

GROUPED = ModelConfig(
    dim=64, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=96, max_seq_len=64, tie_embeddings=False, norm_eps=3e-5,
    rope_theta=500.0, init_std=0.3, rope_scaling_factor=4.0, rope_original_max_seq_len=64,
)  # fmt: skip
TIED = ModelConfig(dim=64, n_layers=1, n_heads=4, ffn_dim=96, max_seq_len=64)
SCALARS = {
    "llama.context_length": 64,
    "llama.embedding_length": 64,
    "llama.block_count": 2,
    "llama.feed_forward_length": 96,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": np.float32(3e-5),
    "llama.rope.freq_base": 500.0,
    "llama.rope.dimension_count": 16,
    "tokenizer.ggml.add_bos_token": False,
}


@pytest.fixture
def gguf():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip("gguf")


def written(folder, config, tokenizer, dtype="float32", rows=None):
    model = Llama(config, rows or tokenizer.vocab_size)
    model.params.initialize(np.random.default_rng(5))
    assert export(folder, model, tokenizer, "gguf", dtype) == [folder / "model.gguf"]
    return model


def test_every_number_and_tensor_is_there(gguf, tmp_path):
    tokenizer = train_tokenizer("bpe", [PROSE], 300)
    model = written(tmp_path / "out", GROUPED, tokenizer, rows=310)
    reader = gguf.GGUFReader(tmp_path / "out" / "model.gguf")
    for key, value in SCALARS.items():
        assert reader.get_field(key).contents() == value, key
    assert reader.get_field("tokenizer.ggml.model").contents() == "gpt2"
    assert reader.get_field("tokenizer.ggml.pre").contents() == "gpt-2"
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    assert tokens[:3] == ["Ā", "ā", "Ă"]
    assert tokens[299:] == ["<|endoftext|>", *(f"[PAD{i}]" for i in range(300, 310))]
    assert reader.get_field("tokenizer.ggml.eos_token_id").contents() == 299
    assert reader.get_field("tokenizer.ggml.token_type").contents() == [1] * 299 + [3] + [5] * 10
    merges = reader.get_field("tokenizer.ggml.merges").contents()
    assert [tuple(merge.split(" ")) for merge in merges] == [tuple(m) for m in tokenizer.to_dict()["model"]["merges"]]
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    factors = tensors.pop("rope_freqs.weight")
    assert factors[0] == 1
    assert factors[-1] == pytest.approx(4)
    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.1.attn_q.weight": "model.layers.1.self_attn.q_proj.weight",
        "blk.0.attn_k.weight": "model.layers.0.self_attn.k_proj.weight",
        "blk.1.ffn_down.weight": "model.layers.1.mlp.down_proj.weight",
        "blk.0.ffn_norm.weight": "model.layers.0.post_attention_layernorm.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    for theirs, ours in names.items():
        assert np.array_equal(tensors[theirs], model.params[ours].data), ours
    assert len(tensors) == len(list(model.params))
    assert sum(array.size for array in tensors.values()) == model.params.size


@pytest.mark.parametrize(("dtype", "error"), [("float16", 1e-3), ("bfloat16", 5e-3), ("q8_0", 1e-2)])
def test_fewer_bits(gguf, tmp_path, dtype, error):
    model = written(tmp_path / "out", TIED, train_tokenizer("bpe", [PROSE], 300), dtype)
    for tensor in gguf.GGUFReader(tmp_path / "out" / "model.gguf").tensors:
        if tensor.name == "blk.0.ffn_up.weight":
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            expected = model.params["model.layers.0.mlp.up_proj.weight"].data
            assert 0 < np.abs(values - expected).max() < error * np.abs(expected).max()
        elif tensor.name.endswith("norm.weight"):
            assert tensor.tensor_type.name == "F32"


@pytest.mark.parametrize("kind", ["byte", "char"])
def test_the_other_tokenizers_are_bpes_too(gguf, tmp_path, kind):
    tokenizer = train_tokenizer(kind, ["añb€😀"], 0)
    written(tmp_path / "out", TIED, tokenizer, rows=tokenizer.vocab_size + 1)
    merges = gguf.GGUFReader(tmp_path / "out" / "model.gguf").get_field("tokenizer.ggml.merges").contents()
    if kind == "byte":
        assert merges == ["Ā Ā"]
    else:
        assert merges == ["Ã ±", "â Ĥ", "âĤ ¬", "ð Ł", "ðŁ ĺ", "ðŁĺ Ģ"]


def test_what_does_not_fit_is_refused(gguf, tmp_path):
    odd = ModelConfig(dim=24, n_layers=1, n_heads=2, ffn_dim=40, max_seq_len=8)
    with pytest.raises(UserError, match=r"q8_0 has blocks of 32 numbers: dim=24 and ffn_dim=40"):
        written(tmp_path / "out", odd, train_tokenizer("byte", [], 0), "q8_0")
    with pytest.raises(UserError, match=r"GGUF needs a token that ends a text.*--model.vocab_size above 3"):
        written(tmp_path / "out", TIED, train_tokenizer("char", ["abc"], 0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(UserError, match=r"out exists already: choose another --out"):
        written(tmp_path / "out", TIED, train_tokenizer("byte", [], 0))
