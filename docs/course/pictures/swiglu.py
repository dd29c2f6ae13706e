"""What a gate does: the curve of silu, and where the gates of a trained model stand on it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm import LanguageModel
from dist_llm.measuring.plotting import SERIES, TINTS, Drawing, Label
from dist_llm.model.functional import sigmoid
from docs.course.pictures._blocks import blocks_with_inputs

TEXT = "Return a new list with the items of the old one, in reverse order."
ENDS = (-4.0, 3.0)


def draw(run: LanguageModel) -> Drawing:
    """Draw silu over how often gates have each value."""
    gates = np.concatenate([gate.ravel() for gate in all_gates(run)])
    often, edges = np.histogram(gates, bins=56, range=ENDS)
    g = np.linspace(*ENDS, 71)
    silu = g * sigmoid(g)

    def curve(axes: Any) -> Sequence[Label]:
        axes.stairs(2 * often / often.max(), edges, fill=True, color=TINTS[0])
        axes.plot(g, silu, color=SERIES[1], linewidth=2)
        axes.set(xlabel="gate g", ylabel="silu(g)", xlim=ENDS)
        axes.grid(visible=True)
        return [
            Label("silu(g)", g[60], silu[60], SERIES[1], needed=True),
            Label("how often a gate\nhas this value", -3.9, 1.4, needed=True),
        ]

    words = "The curve of silu, and behind it how often the gates of a trained model have each value."
    return Drawing("where gates stand", words, 3.0, curve)


def all_gates(run: LanguageModel) -> list[np.ndarray]:
    """Return the gates of all tokens, block by block."""
    found = []
    for block, x in blocks_with_inputs(run, TEXT):
        y = x + block.self_attn.forward(block.input_layernorm.forward(x)[0])[0]
        found.append(block.mlp.gate_proj.forward(block.post_attention_layernorm.forward(y)[0])[0])
    return found
