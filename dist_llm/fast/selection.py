"""Which layers a model is built of: those that one reads, in NumPy, or the compiled ones."""

import importlib.util

import numpy as np

from dist_llm.config import ModelConfig
from dist_llm.errors import UserError
from dist_llm.model.layers import PLAIN, Layers
from dist_llm.model.llama import Llama


def layers_of(precision: str) -> Layers:
    """Return the layers of a precision: ``float32``, ``bfloat16``, or ``auto`` for the faster one that there is.

    Raises
    ------
    UserError
        The machine lacks what it takes.
    """
    lacking = None if precision == "float32" else missing()
    if precision == "float32" or (precision == "auto" and lacking):
        return PLAIN
    if lacking:
        raise UserError(f"model.precision={precision}: {lacking}; or go without: --model.precision=float32")
    from dist_llm.fast.layers import FAST  # numba, which it imports, need not be installed

    return FAST


def missing() -> str | None:
    """Return what this machine lacks for the compiled layers; None: nothing."""
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed: pip install 'dist_llm[fast]'"
    from llvmlite.binding import get_host_cpu_features

    if not get_host_cpu_features().get("avx512bf16"):
        return "the processor has no AVX512-BF16"
    return None


def compile_layers() -> None:
    """Compile the layers, or find them compiled by another process: a forward and a backward pass of a tiny model."""
    config = ModelConfig(dim=8, n_layers=1, n_heads=2, ffn_dim=8, max_seq_len=8)
    model = Llama(config, 8, layers=layers_of("bfloat16"))
    tokens = np.zeros((1, 8), np.int32)
    model.loss_backward(1.0, model.loss(tokens, tokens)[1])
