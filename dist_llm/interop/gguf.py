"""GGUF: the single file that llama.cpp and all that is built on it reads.

Its architecture "llama" pairs the elements of a head as we do, so no row changes its place. Norms stay float32.
The file's tokenizer is a byte-level BPE, which is what ours are, one way or another, or SentencePiece's.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dist_llm.config import ModelConfig
from dist_llm.errors import UserError
from dist_llm.model.llama import Llama, frequencies_of
from dist_llm.model.rope import rotary_frequencies
from dist_llm.text import Tokenizer
from dist_llm.text.bpe import BPETokenizer
from dist_llm.text.byte_level import PATTERNS, SYMBOLS, to_symbols
from dist_llm.text.sentencepiece import SentencePieceTokenizer, is_byte

DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0"}
# What llama.cpp calls the patterns that it knows.
PRE_TOKENIZERS = {PATTERNS["gpt2"]: "gpt-2", PATTERNS["llama3"]: "llama-bpe", PATTERNS["gpt4o"]: "gpt-4o"}
NORMAL, CONTROL, UNUSED, BYTE = 1, 3, 5, 6  # types of tokens
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(path: Path, model: Llama, tokenizer: Tokenizer, dtype: str = "float32") -> None:
    """Write a model and its tokenizer.

    Parameters
    ----------
    dtype : str
        One of DTYPES.

    Raises
    ------
    UserError
        The format, or the type of its numbers, cannot hold the model.
    """
    try:
        import gguf
    except ImportError:
        raise UserError("GGUF needs the gguf package: pip install gguf") from None
    c = model.config
    kind = gguf.GGMLQuantizationType[DTYPES[dtype]]
    if dtype == "q8_0" and (c.dim % 32 or c.ffn_dim % 32):
        raise UserError(f"q8_0 has blocks of 32 numbers: dim={c.dim} and ffn_dim={c.ffn_dim} must be multiples of 32")
    vocabulary = _vocabulary(tokenizer, model.vocab_size)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(path.stem)
    writer.add_context_length(c.max_seq_len)
    writer.add_embedding_length(c.dim)
    writer.add_block_count(c.n_layers)
    writer.add_feed_forward_length(c.ffn_dim)
    writer.add_head_count(c.n_heads)
    writer.add_head_count_kv(c.n_kv_heads or c.n_heads)
    writer.add_layer_norm_rms_eps(c.norm_eps)
    writer.add_rope_freq_base(c.rope_theta)
    writer.add_rope_dimension_count(c.dim // c.n_heads)
    writer.add_vocab_size(model.vocab_size)
    writer.add_file_type(gguf.LlamaFileType[("ALL_" if dtype == "float32" else "MOSTLY_") + DTYPES[dtype]])
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre_tokenizer)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    # Without an end, llama.cpp would take token 11 for it.
    writer.add_eos_token_id(vocabulary.end)
    writer.add_bos_token_id(vocabulary.begin)
    writer.add_add_bos_token(tokenizer.begin_of_text is not None)
    if c.rope_scaling_factor != 1:
        writer.add_tensor("rope_freqs.weight", _rope_factors(c))
    for param in model.params:
        data = np.ascontiguousarray(param.data)
        if param.data.ndim == 1 or dtype == "float32":
            writer.add_tensor(_name(param.name), data)
        else:
            writer.add_tensor(_name(param.name), gguf.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _name(name: str) -> str:
    """Return GGUF's name of a tensor: model.layers.3.mlp.up_proj.weight is blk.3.ffn_up.weight."""
    module = name.removesuffix(".weight")
    if not module.startswith("model.layers."):
        return f"{NAMES[module]}.weight"
    _, _, layer, part = module.split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.weight"


def _rope_factors(c: ModelConfig) -> np.ndarray:
    """Return by what each frequency is divided, float32 (Dh / 2,)."""
    factors: np.ndarray = rotary_frequencies(c.dim // c.n_heads, c.rope_theta) / frequencies_of(c)
    return factors.astype(np.float32)


@dataclass(frozen=True)
class Vocabulary:
    """What the file says of the tokenizer: one token for each row of the embedding."""

    model: str
    pre_tokenizer: str
    tokens: list[str]
    types: list[int]
    end: int
    begin: int
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


def _vocabulary(tokenizer: Tokenizer, rows: int) -> Vocabulary:
    names = {i: name for name, i in tokenizer.special.items()}
    if isinstance(tokenizer, SentencePieceTokenizer):
        written = list(tokenizer.tokens)
        types = [CONTROL if i in names else BYTE if is_byte(token) else NORMAL for i, token in enumerate(written)]
    else:
        symbols = [to_symbols(token) for token in tokenizer.token_bytes]
        written = [names.get(i) or symbol or f"[PAD{i}]" for i, symbol in enumerate(symbols)]
        types = [CONTROL if i in names else NORMAL if symbol else UNUSED for i, symbol in enumerate(symbols)]
    if tokenizer.end_of_text is None and rows == len(written):
        raise UserError(
            "GGUF needs a token that ends a text, and this tokenizer has none: train with a --model.vocab_size above "
            f"{rows}, which leaves a row for it"
        )
    types += [UNUSED] * (rows - len(written))
    written += [f"[PAD{i}]" for i in range(len(written), rows)]
    end = rows - 1 if tokenizer.eot_id is None else tokenizer.eot_id
    begin = end if tokenizer.begin_of_text is None else tokenizer.special[tokenizer.begin_of_text]
    if isinstance(tokenizer, SentencePieceTokenizer):
        # It merges what makes the token of the highest score: minus the lowest rank of the merges that make it.
        scores = [0.0 if kind in (CONTROL, BYTE) else -1e6 for kind in types]
        for rank, token in reversed(list(enumerate(tokenizer.merged))):
            scores[token] = -float(rank)
        return Vocabulary("llama", "default", written, types, end, begin, scores=scores)
    return Vocabulary("gpt2", _pre_tokenizer(tokenizer), written, types, end, begin, merges=_merges(tokenizer))


def _merges(tokenizer: Tokenizer) -> list[str]:
    symbols = [to_symbols(token) for token in tokenizer.token_bytes]
    if isinstance(tokenizer, BPETokenizer) and tokenizer.merges:
        return [f"{symbols[left]} {symbols[right]}" for left, right in tokenizer.merges]
    # llama.cpp wants merges. Those that build characters out of their bytes, one byte after the other, are what a char
    # tokenizer does; and for bytes, one that makes no token: its parts come out as they were.
    building = (f"{symbol[:end]} {symbol[end]}" for symbol in symbols for end in range(1, len(symbol)))
    return list(dict.fromkeys(building)) or [f"{SYMBOLS[0]} {SYMBOLS[0]}"]


def _pre_tokenizer(tokenizer: Tokenizer) -> str:
    """Return llama.cpp's name of the way in which text is cut; bytes and characters do not mind."""
    if not isinstance(tokenizer, BPETokenizer):
        return "gpt-2"
    if len(tokenizer.patterns) != 1 or tokenizer.patterns[0] not in PRE_TOKENIZERS:
        raise UserError("GGUF knows no name for the pattern by which this tokenizer cuts text")
    return PRE_TOKENIZERS[tokenizer.patterns[0]]
