"""Why candidates are cut by probability and not by number: how many tokens make 95 %, place by place of a text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm import LanguageModel
from dist_llm.inference.sampler import Sampler
from dist_llm.measuring.plotting import SERIES, Drawing, Label

TEXT = "Return the number of occurrences of the substring, or None if there is none."
TOP_P = 0.95


def draw(run: LanguageModel) -> Drawing:
    """Draw how many tokens top-p keeps before each token of a text, at two temperatures."""
    tokens = run.tokenizer.encode(TEXT)
    pieces = [run.tokenizer.decode(tokens[n : n + 1]) for n in range(1, len(tokens))]
    logits = run.logits(TEXT)[-len(tokens) : -1]

    def kept(temperature: float) -> list[int]:
        sampler = Sampler(temperature, top_p=TOP_P)
        return [np.count_nonzero(sampler.probabilities(row)) for row in logits]

    def dots(axes: Any) -> Sequence[Label]:
        places, labels = np.arange(len(pieces)), []
        for temperature, color, marker in ((1.0, SERIES[0], "o"), (0.5, SERIES[1], "s")):
            n = kept(temperature)
            axes.plot(places, n, color=color, alpha=0.4, linewidth=0.8)
            axes.plot(places, n, color=color, marker=marker, linestyle="None")
            labels.append(Label(f"temperature {temperature:g}", places[-1], n[-1], color, needed=True))
        axes.set(ylabel="tokens that make 95 %", yscale="log", ylim=(0.8, 3000), xlim=(-0.7, len(pieces) + 4))
        axes.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
        axes.minorticks_off()
        axes.set_xticks(places, [piece.replace(" ", "·") for piece in pieces], rotation=60, ha="right")
        axes.set_xlabel("the token that comes next (· is a space)")
        axes.grid(visible=True)
        return labels

    words = "How many tokens make 95 % of the probability before each token of a text, at temperatures 1 and 0.5."
    return Drawing("how many tokens make 95 %", words, 3.3, dots)
