"""What attention does: which tokens a head of a trained model looks at, from each token of a sentence."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm import LanguageModel
from dist_llm.measuring.plotting import INK, SERIES, Drawing, Label
from docs.course.pictures._blocks import blocks_with_inputs

TEXT = "If the list is empty, the list is returned; otherwise the list is sorted."
NOUN = "list"  # drawn is the head that looks at it most
LARGEST = 130.0  # area of a mark, in square points, where all attention goes to one token


def draw(run: LanguageModel) -> Drawing:
    """Draw the attention from each token to each before it."""
    words = [run.tokenizer.decode([int(token)]).strip() for token in run.tokenizer.encode(TEXT)]
    nouns = [word == NOUN for word in words]
    attention = max(heads(run), key=lambda head: head[:, nouns].sum())

    def marks(axes: Any) -> Sequence[Label]:
        n = len(words)
        rows, columns = np.nonzero(np.tri(n))
        weights = attention[rows, columns].round(2)
        some = weights > 0.02
        axes.plot(columns[~some], rows[~some], ".", color=INK, markersize=1.5, alpha=0.5)
        for of_noun, color in ((False, SERIES[0]), (True, SERIES[1])):
            shown = some & (np.array(nouns)[columns] == of_noun)
            axes.scatter(columns[shown], rows[shown], s=LARGEST * weights[shown], color=color, linewidth=0)
        axes.set_xticks(range(n), words, rotation=90)
        axes.set_yticks(range(n), words)
        axes.set(xlabel="looked at", ylabel="looking", xlim=(-0.7, n - 0.3), ylim=(n - 0.3, -0.7))
        axes.tick_params(length=0)
        return []

    said = "From each token of a sentence, the attention of one head to itself and each token before it."
    return Drawing("what one head looks at", said, 4.6, marks)


def heads(run: LanguageModel) -> list[np.ndarray]:
    """Return the attention (T, T) of each head of each block."""
    return [
        head
        for block, x in blocks_with_inputs(run, TEXT)
        for head in block.self_attn.weights(block.input_layernorm.forward(x)[0])[0]
    ]
