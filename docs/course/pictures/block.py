"""What residual connections are for: how large a gradient is on its way back through a trained model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm import LanguageModel
from dist_llm.measuring.plotting import SERIES, Drawing, Label

TEXT = "Return a new list with the items of the old one, in reverse order."


def draw(run: LanguageModel) -> Drawing:
    """Draw the root mean square of the gradient behind each layer, and what it would be without the additions."""
    model = run.model
    tokens = run.tokenizer.encode(TEXT)[None]
    _, (body, head) = model.loss(tokens[:, :-1], tokens[:, 1:])
    _, _, blocks, norm = body
    dx = model.norm.backward(model.loss_head.backward(1.0, head), norm)
    with_, without = [dx], [dx]
    for block, cache in zip(reversed(model.layers), reversed(blocks), strict=True):
        norm1, attn, _, norm2, mlp, _ = cache
        for layer, layer_cache, before, norm_cache in (
            (block.mlp, mlp, block.post_attention_layernorm, norm2),
            (block.self_attn, attn, block.input_layernorm, norm1),
        ):
            back, back_alone = (
                before.backward(layer.backward(dy, layer_cache), norm_cache) for dy in (with_[-1], without[-1])
            )
            with_.append(with_[-1] + back)
            without.append(back_alone)

    def lines(axes: Any) -> Sequence[Label]:
        numbers = np.arange(len(with_))
        labels = []
        for gradients, words, color, marker in (
            (with_, "as it is", SERIES[0], "s"),
            (without, "without the additions", SERIES[1], "o"),
        ):
            sizes = [np.sqrt(np.mean(dx * dx)) for dx in gradients]
            axes.plot(numbers, sizes, color=color, marker=marker)
            labels.append(Label(words, numbers[5], sizes[5], color, needed=True))
        axes.set(xlabel="layers that it has come back through", ylabel="gradient, root mean square", yscale="log")
        axes.set_xticks(numbers)
        axes.set_yticks([0.0001, 0.001, 0.01, 0.1, 1], ["0.0001", "0.001", "0.01", "0.1", "1"])
        axes.grid(visible=True)
        return labels

    words = "The size of a gradient on its way back through a trained model, with and without residual connections."
    return Drawing("the gradient on its way back", words, 3.0, lines)
