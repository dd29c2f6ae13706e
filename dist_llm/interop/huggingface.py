"""Hugging Face's form of a model: a folder of config.json, model.safetensors, tokenizer.json and a few more.

A Llama there has the same tensors under the same names. What a config.json leaves out has a default, which may be
another one than ours: everything is written down, and read with transformers' own defaults.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from dist_llm.config import Config, ModelConfig
from dist_llm.errors import UserError
from dist_llm.interop.weights import FILE as WEIGHTS
from dist_llm.interop.weights import Weights, check_size
from dist_llm.model.llama import Llama
from dist_llm.regular_file import read_json
from dist_llm.text import TOKENIZER, TOKENIZER_CONFIG, Tokenizer, tokenizer_config

DTYPES = ("float32", "float16", "bfloat16")
CONFIG, GENERATION_CONFIG = "config.json", "generation_config.json"

# Llama 3's scaled rotary embedding: its keys, and our fields.
ROPE_SCALING = {
    "factor": "rope_scaling_factor",
    "low_freq_factor": "rope_low_freq_factor",
    "high_freq_factor": "rope_high_freq_factor",
    "original_max_position_embeddings": "rope_original_max_seq_len",
}
# Training on sequences as long as some models' contexts would take all memory: unless told, they are no longer.
LONGEST_SEQ_LEN = 2048
# What older files hold beside the parameters.
NOT_PARAMETERS = (".rotary_emb.inv_freq",)


def write(folder: Path, model: Llama, tokenizer: Tokenizer, dtype: str = "float32") -> None:
    """Write a model and its tokenizer to a folder.

    Parameters
    ----------
    dtype : str
        One of DTYPES.
    """
    weights = {name: np.ascontiguousarray(array.astype(dtype)) for name, array in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    for name, text in model_files(model.config, model.vocab_size, tokenizer, dtype).items():
        (folder / name).write_text(text, encoding="utf-8")


def model_files(config: ModelConfig, vocab_size: int, tokenizer: Tokenizer, dtype: str = "float32") -> dict[str, str]:
    """Return the text of each file by its name, so that the folder can be opened as it stands."""
    documents = {
        CONFIG: config_json(config, vocab_size, tokenizer.eot_id, dtype),
        GENERATION_CONFIG: {"bos_token_id": tokenizer.eot_id, "eos_token_id": tokenizer.eot_id},
        TOKENIZER_CONFIG: tokenizer_config(tokenizer) | {"model_max_length": config.max_seq_len},
    }
    texts = {name: json.dumps(document, indent=2) + "\n" for name, document in documents.items()}
    return texts | {TOKENIZER: tokenizer.to_json()}


def config_json(config: ModelConfig, vocab_size: int, eot_id: int | None, dtype: str = "float32") -> dict[str, Any]:
    """Return the content of config.json, for versions 4 and 5 of transformers."""
    scaling: dict[str, Any] | None = None
    if config.rope_scaling_factor != 1:
        scaling = {key: getattr(config, field) for key, field in ROPE_SCALING.items()}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": config.dim,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads or config.n_heads,
        "head_dim": config.dim // config.n_heads,
        "max_position_embeddings": config.max_seq_len,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": None if scaling is None else {"rope_type": "llama3"} | scaling,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "llama3" if scaling else "default"}
        | (scaling or {}),
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "initializer_range": config.init_std,
        "bos_token_id": eot_id,
        "eos_token_id": eot_id,
        "pad_token_id": None,
        "use_cache": True,
        "dtype": dtype,
        "torch_dtype": dtype,
    }


def is_model(folder: Path) -> bool:
    """Whether a folder looks like a model of Hugging Face's."""
    return (folder / CONFIG).exists()


def read_config(folder: Path, longest_seq_len: int | None = None) -> ModelConfig:
    """Return the shape of a folder's model.

    Parameters
    ----------
    longest_seq_len : int, optional
        The context is cut to it.

    Raises
    ------
    UserError
        There is no config.json, it is damaged, or it is of a model that is not supported; the message says what.
    """
    path = folder / CONFIG
    try:
        there = read_json(path)
        if not isinstance(there, dict):
            raise ValueError("it is no object")
        shape = _shape(there)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except KeyError as error:
        raise UserError(f"{path} does not say {error.args[0]}") from error
    except (UserError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: {error}") from error
    if longest_seq_len is not None:
        shape["max_seq_len"] = min(shape["max_seq_len"], longest_seq_len)
    try:
        return Config().replace({"model": shape}).validated().model
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _shape(there: Mapping[str, Any]) -> dict[str, Any]:
    """Return our fields for those of a config.json, with the defaults of transformers' LlamaConfig."""
    heads, dim = there["num_attention_heads"], there["hidden_size"]
    for key in ("num_attention_heads", "hidden_size", "head_dim"):  # a text, multiplied, would be long
        if not isinstance(there.get(key), int | None):
            raise ValueError(f"{key} is not a whole number")
    rope = there.get("rope_parameters") or there.get("rope_scaling") or {}
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    for key, there_is, is_supported in (
        ("model_type", there.get("model_type"), there.get("model_type") == "llama"),
        ("hidden_act", there.get("hidden_act"), there.get("hidden_act", "silu") == "silu"),
        ("attention_bias", True, not there.get("attention_bias")),
        ("mlp_bias", True, not there.get("mlp_bias")),
        ("sliding_window", there.get("sliding_window"), not there.get("sliding_window")),
        ("quantization_config", "there", not there.get("quantization_config")),
        ("head_dim", there.get("head_dim"), there.get("head_dim") is None or there["head_dim"] * heads == dim),
        ("rope_type", rope_type, rope_type in ("default", "llama3")),
        ("partial_rotary_factor", rope.get("partial_rotary_factor"), rope.get("partial_rotary_factor", 1) == 1),
    ):
        if not is_supported:
            raise ValueError(f"{key} is {there_is}, which is not supported")
    shape = {
        "dim": dim,
        "n_layers": there["num_hidden_layers"],
        "n_heads": heads,
        "n_kv_heads": there.get("num_key_value_heads") or heads,
        "ffn_dim": there["intermediate_size"],
        "max_seq_len": there.get("max_position_embeddings", 2048),
        "vocab_size": there["vocab_size"],
        "tie_embeddings": there.get("tie_word_embeddings", False),
        "norm_eps": there.get("rms_norm_eps", 1e-6),
        "rope_theta": rope.get("rope_theta", there.get("rope_theta", 10000.0)),
        "init_std": there.get("initializer_range", 0.02),
    }
    if shape["vocab_size"] is None:
        raise ValueError("vocab_size is null")
    if rope_type == "llama3":
        shape |= {field: rope[key] for key, field in ROPE_SCALING.items()}
    return shape


def open_weights(folder: Path, config: ModelConfig) -> Weights:
    """Return the weights of a folder, which are read when they are asked for.

    Raises
    ------
    UserError
        They are damaged, or not as large as config.json describes.
    """
    tied = ("lm_head.weight",) if config.tie_embeddings else ()
    weights = Weights(folder, lambda name: name.endswith((*NOT_PARAMETERS, *tied)))
    check_size(weights, config, folder / CONFIG)
    return weights


def load_model(folder: Path, config: ModelConfig, model_class: type[Llama] = Llama) -> Llama:
    """Return the model of a folder, with its weights.

    Parameters
    ----------
    config : ModelConfig
        Of `read_config`, perhaps with another context.
    model_class : type
        Llama or one that does the same.

    Raises
    ------
    UserError
        The weights are damaged, or not those that config.json describes.
    """
    weights = open_weights(folder, config)
    assert config.vocab_size is not None
    model = model_class(config, config.vocab_size)
    try:
        model.load_state_dict(weights)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    return model
