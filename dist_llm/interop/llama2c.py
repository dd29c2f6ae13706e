"""llama2.c's own format, version 0: the weights in a file without names, and `tokenizer.bin` beside it.

    seven int32    dim, ffn_dim, n_layers, n_heads, n_kv_heads, vocabulary (negative: untied), max_seq_len
    float32        embedding; of all layers the attention norms, q, k, v, o, the feed-forward norms, gate, down, up; the
                   last norm; max_seq_len * Dh numbers that nobody reads; the output projection if untied

`run.c` pairs the elements of a head as we do. Its tokenizer has ids of its own: 0 unknown, 1 and 2 the begin and end of
a text, 3 to 258 the bytes; so the rows of the embedding are put in that order. It merges what has the highest score,
which is minus the rank of the merge that makes it, and knows no pieces: some texts are cut otherwise than here.
"""

import struct
from pathlib import Path

from dist_llm.errors import UserError
from dist_llm.model.llama import Llama
from dist_llm.text import Tokenizer

LAYER_TENSORS = (
    "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "post_attention_layernorm", "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj",
)  # fmt: skip


def write_llama2c(folder: Path, model: Llama, tokenizer: Tokenizer) -> None:
    """Write ``model.bin`` and ``tokenizer.bin``.

    Raises
    ------
    UserError
        The format cannot hold the model or its tokenizer.
    """
    c = model.config
    for field, value in (("rope_theta", 10000.0), ("norm_eps", 1e-5), ("rope_scaling_factor", 1.0)):
        if (is_ := getattr(c, field)) != value:
            raise UserError(f"llama2.c has model.{field}={value:g} fixed in its program, and this model has {is_:g}")
    rows, tokens = _vocabulary(tokenizer)
    head_dim, params = c.dim // c.n_heads, model.params
    shape = (c.dim, c.ffn_dim, c.n_layers, c.n_heads, c.n_kv_heads or c.n_heads)
    sign = 1 if c.tie_embeddings else -1
    with (folder / "model.bin").open("wb") as file:
        file.write(struct.pack("<7i", *shape, sign * len(rows), c.max_seq_len))
        file.write(params["model.embed_tokens.weight"].data[rows].astype("<f4").tobytes())
        for part in LAYER_TENSORS:
            for layer in range(c.n_layers):
                file.write(params[f"model.layers.{layer}.{part}.weight"].data.astype("<f4").tobytes())
        file.write(params["model.norm.weight"].data.astype("<f4").tobytes())
        file.write(bytes(4 * c.max_seq_len * head_dim))
        if not c.tie_embeddings:
            file.write(params["lm_head.weight"].data[rows].astype("<f4").tobytes())
    with (folder / "tokenizer.bin").open("wb") as file:
        file.write(struct.pack("<I", max(len(text) for text, _ in tokens)))
        for text, score in tokens:
            file.write(struct.pack("<fI", score, len(text)) + text)


def _vocabulary(tokenizer: Tokenizer) -> tuple[list[int], list[tuple[bytes, float]]]:
    """Return, for each of llama2.c's ids, our id whose row it has, and its text and score."""
    ids = {token: i for i, token in enumerate(tokenizer.token_bytes) if token}
    end = tokenizer.eot_id
    if end is None or any(bytes([byte]) not in ids for byte in range(256)):
        raise UserError(
            f"llama2.c needs all 256 bytes and a token that ends a text; a {tokenizer.kind} tokenizer lacks them"
        )
    rows = [ids[b"\xff"], end, end, *(ids[bytes([byte])] for byte in range(256))]
    tokens = [(b"<unk>", 0.0), (b"\n<s>\n", 0.0), (b"\n</s>\n", 0.0)]
    tokens += [(bytes([byte]) if byte else b"<0x00>", 0.0) for byte in range(256)]
    merged = dict.fromkeys(
        tokenizer.token_bytes[left] + tokenizer.token_bytes[right] for left, right in getattr(tokenizer, "merges", [])
    )
    rows += [ids[token] for token in merged]
    tokens += [(token, -float(rank)) for rank, token in enumerate(merged)]
    return rows, tokens
