"""Checkpoints of a tiny model, for tests of what becomes of them."""

from pathlib import Path

import numpy as np

from dist_llm.config import ModelConfig, OptimConfig
from dist_llm.model.llama import Llama
from dist_llm.optim.adamw import AdamW
from dist_llm.training.checkpoint import save_checkpoint

CONFIG = ModelConfig(dim=8, n_layers=1, n_heads=2, ffn_dim=12, max_seq_len=8)


def new(seed: int | None = None, config: ModelConfig = CONFIG) -> tuple[Llama, AdamW]:
    model = Llama(config, 11)
    optimizer = AdamW(model.params, OptimConfig())
    if seed is not None:
        rng = np.random.default_rng(seed)
        for array in (model.params.data, optimizer.m, optimizer.v):
            array[...] = rng.standard_normal(array.size)
    return model, optimizer


def save(run: Path, step: int, val_loss: float | None = None) -> Path:
    return save_checkpoint(run, parts(step), {"step": step, "val_loss": val_loss})


def parts(seed: int) -> dict[str, dict[str, np.ndarray]]:
    model, optimizer = new(seed)
    optimizer.steps = seed
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "strategy": {}}
