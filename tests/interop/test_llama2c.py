"""llama2.c's files, read back as its run.c reads them."""

import struct

import numpy as np
import pytest

from dist_llm.config import ModelConfig
from dist_llm.errors import UserError
from dist_llm.interop.export import export
from dist_llm.model.llama import Llama
from dist_llm.text import train_tokenizer
from tests.text.samples import PROSE

TIED = ModelConfig(dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=48, max_seq_len=64, init_std=0.3)


def written(folder, config, tokenizer):
    model = Llama(config, tokenizer.vocab_size)
    model.params.initialize(np.random.default_rng(5))
    export(folder, model, tokenizer, "llama2c", "float32")
    return model


def read_tokenizer(path):
    content = path.read_bytes()
    tokens, at = [], 4
    while at < len(content):
        score, length = struct.unpack_from("<fI", content, at)
        tokens.append((content[at + 8 : at + 8 + length], score))
        at += 8 + length
    assert struct.unpack_from("<I", content)[0] == max(len(text) for text, _ in tokens)
    return tokens


@pytest.mark.parametrize("tied", [True, False])
def test_weights_lie_as_run_c_maps_them(tmp_path, tied):
    config = ModelConfig(**(vars(TIED) | {"tie_embeddings": tied}))
    tokenizer = train_tokenizer("bpe", [PROSE], 300)
    model = written(tmp_path / "out", config, tokenizer)
    content = (tmp_path / "out" / "model.bin").read_bytes()
    dim, ffn, layers, heads, kv_heads, vocab, seq_len = struct.unpack_from("<7i", content)
    assert (dim, ffn, layers, heads, kv_heads, seq_len) == (32, 48, 2, 4, 2, 64)
    assert (vocab > 0) == tied
    vocab = abs(vocab)
    floats, at = np.frombuffer(content, "<f4", offset=28), 0

    def take(*shape):
        nonlocal at
        at += int(np.prod(shape))
        return floats[at - int(np.prod(shape)) : at].reshape(shape)

    embedding = take(vocab, dim)
    blocks = {
        "input_layernorm": take(layers, dim),
        "self_attn.q_proj": take(layers, dim, dim),
        "self_attn.k_proj": take(layers, dim // 2, dim),
        "self_attn.v_proj": take(layers, dim // 2, dim),
        "self_attn.o_proj": take(layers, dim, dim),
        "post_attention_layernorm": take(layers, dim),
        "mlp.gate_proj": take(layers, ffn, dim),
        "mlp.down_proj": take(layers, dim, ffn),
        "mlp.up_proj": take(layers, ffn, dim),
    }
    norm = take(dim)
    take(seq_len * dim // heads)
    head = embedding if tied else take(vocab, dim)
    assert at == floats.size
    for name, arrays in blocks.items():
        for layer in range(layers):
            assert np.array_equal(arrays[layer], model.params[f"model.layers.{layer}.{name}.weight"].data), name
    assert np.array_equal(norm, model.params["model.norm.weight"].data)
    tokens = read_tokenizer(tmp_path / "out" / "tokenizer.bin")
    assert len(tokens) == vocab == 3 + 256 + 43
    ours, heads_ = model.params["model.embed_tokens.weight"].data, model.loss_head.weight.data
    for row, (text, score) in enumerate(tokens):
        if row >= 259:
            i = tokenizer.token_bytes.index(text)
            assert score == 259 - row
        else:
            i = 299 if row in (1, 2) else row - 3 if row >= 3 else 255
        assert np.array_equal(embedding[row], ours[i])
        assert np.array_equal(head[row], heads_[i])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_theta": 5e5}, "llama2.c has model.rope_theta=10000 fixed in its program, and this model has 500000"),
        ({"norm_eps": 1e-6}, "llama2.c has model.norm_eps=1e-05 fixed"),
        ({"rope_scaling_factor": 8.0}, "llama2.c has model.rope_scaling_factor=1 fixed"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_by_name(tmp_path, changes, message):
    with pytest.raises(UserError) as caught:
        written(tmp_path / "out", ModelConfig(**(vars(TIED) | changes)), train_tokenizer("byte", [], 0))
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_characters_are_refused(tmp_path):
    with pytest.raises(UserError, match="a char tokenizer lacks"):
        written(tmp_path / "out", TIED, train_tokenizer("char", ["abc"], 0))
