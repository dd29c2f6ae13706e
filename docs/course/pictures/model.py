"""What the flat buffer of parameters is: all tensors of a trained model in a row, and how large their values are."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm import LanguageModel
from dist_llm.measuring.plotting import INK, TINTS, Drawing, Label

KINDS = {"embed_tokens": TINTS[0], "self_attn": TINTS[1], "mlp": TINTS[4]}


def draw(run: LanguageModel) -> Drawing:
    """Draw each matrix as a bar: where it lies, and the root mean square of its values."""
    matrices = [param for param in run.model.params if param.init_std is not None]
    sizes = [float(np.sqrt(np.mean(param.data**2))) for param in matrices]
    table, first = run.model.embed_tokens.weight, run.model.layers[0]

    def bars(axes: Any) -> Sequence[Label]:
        for param, size in zip(matrices, sizes, strict=True):
            color = next(color for kind, color in KINDS.items() if kind in param.name)
            left, width = param.offset / 1e6, param.size / 1e6
            axes.bar(left, size, width, align="edge", color=color, edgecolor="none")
            axes.plot([left, left + width], [param.init_std] * 2, color=INK, linewidth=1.5, solid_capstyle="butt")
        middle = table.size / 2e6
        axes.text(middle, 1.04 * table.init_std, "at the start", ha="center", va="bottom")
        axes.text(middle, 0.5 * table.init_std, "embedding", ha="center", va="center")
        for words, param in (
            ("attention", first.self_attn.qkv_proj.weight),
            ("feed-forward", first.mlp.up_proj.weight),
        ):
            place = (param.offset + (param.size / 2 if words == "attention" else 0)) / 1e6
            axes.text(place, 0.08 * table.init_std, words, ha="center", va="bottom", rotation=90)
        for number, block in enumerate(run.model.layers, 1):
            left = block.input_layernorm.gain.offset
            right = block.mlp.down_proj.weight.slice.stop
            axes.text((left + right) / 2e6, 1.1 * max(sizes[1:]), f"block {number}", ha="center", va="bottom")
        axes.set(xlabel="place in the row, in millions", ylabel="root mean square of the values")
        axes.set_xlim(0, run.model.params.size / 1e6)
        return []

    words = "All parameters of a model in a row, each tensor as high as its values are large."
    return Drawing("all parameters in a row", words, 3.0, bars)
