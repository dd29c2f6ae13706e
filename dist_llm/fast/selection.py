"""What a model trains and generates with: what one reads, in NumPy, or compiled layers, optimizers and decoding."""

import importlib
import importlib.util

import numpy as np

from dist_llm.config import ModelConfig, OptimConfig
from dist_llm.errors import UserError
from dist_llm.model.layers import PLAIN, Layers
from dist_llm.model.llama import Llama
from dist_llm.optim.registry import Optimizers, make_optimizer

COMPILED = ("bfloat16", "float32-compiled")  # the faster one first


def layers_of(precision: str) -> Layers:
    """Return the layers of a precision: ``float32``, or one of COMPILED.

    Raises
    ------
    UserError
        The machine lacks what it takes.
    """
    if precision == "float32":
        return PLAIN
    if lacking := missing(precision):
        raise UserError(f"model.precision={precision}: {lacking}; or go without: --model.precision=float32")
    from dist_llm.fast.layers import LAYERS  # numba, which it imports, need not be installed

    return LAYERS[precision]


def optimizers_of(precision: str) -> Optimizers:
    """Return the compiled optimizer for each plain one, where the layers of a precision are compiled."""
    if precision not in COMPILED:
        return {}
    from dist_llm.fast.optimizers import OPTIMIZERS

    return OPTIMIZERS


def model_class(compiled: bool) -> type[Llama]:
    """Return the class of a model to generate with: the plain one, or the one that decodes by a compiled function.

    Raises
    ------
    UserError
        Compiled it cannot be.
    """
    if not compiled:
        return Llama
    if lacking := missing("float32-compiled"):
        raise UserError(f"compiled decoding: {lacking}")
    from dist_llm.fast import decoding  # numba, which it imports, need not be installed

    return decoding.Llama


def missing(precision: str) -> str | None:
    """Return what this machine lacks for compiled layers; None: nothing."""
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed: pip install 'dist_llm[fast]'"
    from dist_llm.fast.processor import has

    try:
        importlib.import_module("dist_llm.fast.layers")
    except RuntimeError:  # numba's, where nothing is writable
        return "numba finds no folder for what it compiles: name one that is writable in NUMBA_CACHE_DIR"
    if precision == "bfloat16" and not has("avx512bf16"):
        return "the processor has no AVX512-BF16"
    return None


def compile_for(precision: str) -> None:
    """Compile layers and optimizers, or find them compiled by another process: a step of a tiny model."""
    config = ModelConfig(dim=8, n_layers=1, n_heads=2, ffn_dim=16, max_seq_len=8)
    model = Llama(config, 8, layers=layers_of(precision))
    tokens = np.zeros((1, 8), np.int32)
    model.loss_backward(1.0, model.loss(tokens, tokens)[1])
    optimizer = make_optimizer(model.params, OptimConfig(), compiled=optimizers_of(precision))
    optimizer.prepare()
    optimizer.step(1.0)
