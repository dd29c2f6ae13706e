"""What RMSNorm is for: how long the vectors of a text are before each norm of a trained model, and behind it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm import LanguageModel
from dist_llm.measuring.plotting import SERIES, Drawing, Label
from docs.course.pictures._blocks import blocks_with_inputs

TEXT = "Return a new list with the items of the old one, in reverse order."


def draw(run: LanguageModel) -> Drawing:
    """Draw the root mean square of each token's vector, norm by norm."""
    before, behind = [], []

    def norm(layer: Any, x: np.ndarray) -> None:
        before.append(rms(x))
        behind.append(rms(layer.forward(x)[0]))

    for block, x in blocks_with_inputs(run, TEXT):
        norm(block.input_layernorm, x)
        y = x + block.self_attn.forward(block.input_layernorm.forward(x)[0])[0]
        norm(block.post_attention_layernorm, y)
    norm(run.model.norm, block.forward(x)[0])

    def lines(axes: Any) -> Sequence[Label]:
        numbers = np.arange(1, len(before) + 1)
        for lengths, color, marker in ((before, SERIES[1], "o"), (behind, SERIES[0], "s")):
            axes.plot(numbers, lengths, color=color, alpha=0.2, linewidth=0.8)
            axes.plot(numbers, np.median(lengths, axis=1), color=color, marker=marker)
        axes.set(xlabel="norm, from the first to the last", ylabel="root mean square", yscale="log", xticks=numbers)
        axes.set_xlim(0.7, len(before) + 2.2)
        axes.grid(visible=True)
        return [
            Label(f"before: {np.median(before[-1]):.2f}", numbers[-1], np.median(before[-1]), SERIES[1], needed=True),
            Label(f"behind: {np.median(behind[-1]):.2f}", numbers[-1], np.median(behind[-1]), SERIES[0], needed=True),
        ]

    words = "The root mean square of each token's vector, before and behind each norm of a trained model."
    return Drawing("how long the vectors are", words, 3.0, lines)


def rms(x: np.ndarray) -> np.ndarray:
    """Return the root mean square of each token's vector."""
    return np.sqrt(np.mean(x * x, axis=-1)).ravel()
