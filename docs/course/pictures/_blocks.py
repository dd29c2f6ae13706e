"""For pictures of what a trained model computes: its blocks, with what comes into each."""

from collections.abc import Iterator

import numpy as np

from dist_llm import LanguageModel
from dist_llm.model.block import Block


def blocks_with_inputs(run: LanguageModel, text: str) -> Iterator[tuple[Block, np.ndarray]]:
    """Yield each block of a model that reads a text, and the vectors (1, T, D) that come into it."""
    x = run.model.embed_tokens.forward(run.tokenizer.encode(text)[None])[0]
    for block in run.model.layers:
        yield block, x
        x, _ = block.forward(x)
