"""What the loss tells a trained model: the gradient of the scores at one position of a text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm import LanguageModel
from dist_llm.measuring.plotting import INK, SERIES, Drawing, Label
from dist_llm.model.functional import softmax_cross_entropy_

TEXT, NEXT = "Return a new list", " with"
SHOWN = 6  # tokens with the largest probabilities


def draw(run: LanguageModel) -> Drawing:
    """Draw the gradient of the target's score, of those of the likeliest tokens, and of all others together."""
    tokenizer = run.tokenizer
    target = int(tokenizer.encode(NEXT)[0])
    dlogits = run.logits(TEXT)[-1:]
    softmax_cross_entropy_(dlogits, np.array([target]))
    gradient = dlogits[0]
    likeliest = np.argsort(-gradient)[:SHOWN].tolist()
    others = np.delete(gradient, [target, *likeliest])
    values = [gradient[target], *gradient[likeliest], others.sum()]
    names = [repr(tokenizer.decode([i])) for i in (target, *likeliest)] + [f"{len(others):,} others"]

    def bars(axes: Any) -> Sequence[Label]:
        places = range(len(values))
        axes.barh(places, values, color=[SERIES[int(value > 0)] for value in values], height=0.6)
        axes.axvline(0, color=INK, linewidth=0.8)
        for y, value in zip(places, values, strict=True):
            side = 1 if value > 0 else -1
            axes.text(value + 0.02 * side, y, f"{value:+.2f}", ha="left" if value > 0 else "right", va="center")
        axes.set(xlim=(min(values) - 0.23, max(values) + 0.27), ylim=(len(values) - 0.4, -0.6))
        axes.set_xlabel("gradient of the score: a step goes the other way")
        axes.set_xticks([-1, -0.5, 0, 0.5])
        axes.set_yticks(places, names, parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        return []

    words = f"The gradient of the scores behind {TEXT!r}, where {NEXT!r} follows: " + ", ".join(
        f"{name} {value:+.2f}" for name, value in zip(names, values, strict=True)
    )
    return Drawing("predicted, less what came", words + ".", 2.8, bars)
