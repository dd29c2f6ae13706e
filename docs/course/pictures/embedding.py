"""What comes back to the embedding: the gradient of each token of a text, and of each row of the table their sum."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm import LanguageModel
from dist_llm.measuring.plotting import INK, SERIES, Drawing, Label

TEXT = "The name of the file, the name of the user, and the name of the host."
LARGEST = 13  # points, of the largest mark


def draw(run: LanguageModel) -> Drawing:
    """Draw a dot for each token, in the row that it takes, and a square for each row."""
    model = run.model
    text = run.tokenizer.encode(TEXT)
    tokens = text[:-1]
    h, (_, _, blocks, norm) = model.forward(tokens[None])
    _, head = model.loss_head.forward(h, text[None, 1:])
    dx = model.norm.backward(model.loss_head.backward(1 / len(tokens), head), norm)
    for layer, cache in zip(reversed(model.layers), reversed(blocks), strict=True):
        dx = layer.backward(dx, cache)
    model.params.grad[:] = 0
    model.embed_tokens.backward(dx, tokens[None])
    rows = list(dict.fromkeys(tokens.tolist()))  # in the order of the text
    sizes = np.linalg.norm(dx[0], axis=-1)
    sums = np.linalg.norm(model.embed_tokens.weight.grad[rows], axis=-1)
    scale = LARGEST / np.sqrt(max(sizes.max(), sums.max()))

    def marks(axes: Any) -> Sequence[Label]:
        end = len(tokens) + 2
        for n, (token, size) in enumerate(zip(tokens.tolist(), sizes, strict=True), 1):
            color = SERIES[int(np.sum(tokens == token) > 1)]
            axes.plot(n, rows.index(token), "o", color=color, markersize=scale * np.sqrt(size), markeredgewidth=0)
        for y, (token, size) in enumerate(zip(rows, sums, strict=True)):
            color = SERIES[int(np.sum(tokens == token) > 1)]
            axes.axhline(y, color=INK, alpha=0.15, linewidth=0.8)
            axes.plot(end, y, "s", color=color, markersize=scale * np.sqrt(size), markeredgewidth=0)
        axes.axvline(end - 1, color=INK, linewidth=0.8)
        axes.set(xlabel="position in the text", xlim=(0.3, end + 0.9), ylim=(len(rows) - 0.3, -0.7))
        axes.set_xticks([*range(1, len(tokens) + 1, 4), end], [*map(str, range(1, len(tokens) + 1, 4)), "sum"])
        axes.set_yticks(range(len(rows)), [repr(run.tokenizer.decode([row])) for row in rows])
        return []

    words = f"The gradient of each token of {TEXT!r}, in the row of the table that it belongs to, and their sums."
    return Drawing("which row gets which gradient", words, 3.6, marks)
