"""The small models and the data on which dist_llm and PyTorch are compared, live and through the golden files."""

import numpy as np

from dist_llm.config import ModelConfig, OptimConfig
from dist_llm.model.llama import Llama
from dist_llm.seeding import generator

VOCAB = 61

SMALL = {"dim": 24, "n_layers": 2, "n_heads": 4, "ffn_dim": 40, "max_seq_len": 96, "init_std": 0.2, "norm_eps": 1e-5}
CASES = {
    "tied": ModelConfig(**SMALL, rope_theta=10000.0),
    "untied-grouped": ModelConfig(**SMALL, n_kv_heads=2, tie_embeddings=False, rope_theta=500.0),
}
# Every number is said here: a change of the defaults must not change what the golden files mean.
OPTIM = OptimConfig(
    lr=1e-2,
    min_lr=3e-4,
    schedule="cosine",
    warmup_steps=3,
    beta1=0.9,
    beta2=0.95,
    eps=1e-8,
    weight_decay=0.1,
    grad_clip=1.0,
)
STEPS = 10


def case_model(name: str, dtype: type = np.float32) -> Llama:
    """A model with random weights, gains of the norms included."""
    model = Llama(CASES[name], VOCAB, dtype)
    rng = generator(3, f"case {name}")
    model.params.initialize(rng)
    for param in model.params:
        if param.init_std is None:
            param.data[...] = rng.uniform(0.5, 1.5, param.shape)
    return model


def case_batch(step: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and targets of (3, 96): longer than one block of queries, and not a multiple of it."""
    # Squaring makes low tokens more frequent, so that there is something to learn.
    window = (generator(4, "batch", step).random((3, 97)) ** 2 * VOCAB).astype(np.int32)
    return window[:, :-1], window[:, 1:]
