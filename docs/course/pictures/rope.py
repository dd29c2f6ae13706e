"""What rotary positions make possible: how far back heads of a trained model look, by the turns alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm import LanguageModel
from dist_llm.measuring.plotting import SERIES, Drawing, Label
from docs.course.pictures._blocks import blocks_with_inputs

TEXT = """\
Return a new list with the items of the old one, in reverse order. If the list is empty, the list is returned;
otherwise the list is sorted. The function raises a ValueError if the argument is not a string, and returns None if
there is nothing left to do. This method is called when the object is created. If the file exists, it is opened."""
FARTHEST = 24
WANTED = (1, 4, 10)  # for each of these distances, the head that gives it most


def draw(run: LanguageModel) -> Drawing:
    """Draw the attention at each distance: measured, and as the turned mean query and mean key would have it."""
    by_turns, measured = (np.array(curves) for curves in zip(*heads(run), strict=True))
    chosen = [int(np.argmax(by_turns[:, distance])) for distance in WANTED]

    def lines(axes: Any) -> Sequence[Label]:
        distances = np.arange(FARTHEST + 1)
        for head, color in zip(chosen, SERIES, strict=False):
            axes.plot(distances, measured[head] / by_turns[head].max(), "o", color=color, markersize=3.5, alpha=0.6)
            axes.plot(distances, by_turns[head] / by_turns[head].max(), color=color)
        axes.set(xlabel="tokens back", ylabel="attention, relative", ylim=(0, None))
        axes.grid(visible=True)
        return [
            Label(f"{distance} back", distance, by_turns[head][distance] / by_turns[head].max(), color, needed=True)
            for distance, head, color in zip(WANTED, chosen, SERIES, strict=False)
        ]

    words = "How much attention three heads of a trained model give to the tokens before, by their distance."
    return Drawing("how far back heads look", words, 3.0, lines)


def heads(run: LanguageModel) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each head its attention at each distance: by the turns of mean query and mean key, and measured."""
    found = []
    for block, x in blocks_with_inputs(run, TEXT):
        turns = run.model.freqs_cis[: x.shape[1]]  # (T, Dh / 2)
        y, _ = block.input_layernorm.forward(x)
        _, (_, (q, k, *_), _) = block.self_attn.forward(y)
        weights = block.self_attn.weights(y)[0, :, FARTHEST:]
        for query, key, measured in zip(q[0, :, 0], k[0, :, 0], weights, strict=True):  # (T, Dh), already turned
            by_distance = [np.mean(np.diagonal(measured, FARTHEST - d)) for d in range(FARTHEST + 1)]
            mean_query, mean_key = (np.mean(a.view(turns.dtype) * turns.conj(), axis=0) for a in (query, key))
            by_turns = softmax(np.real(turns @ (mean_query * mean_key.conj())))
            found.append((by_turns[: FARTHEST + 1], np.array(by_distance)))
    return found


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return the softmax of scores (n,)."""
    e = np.exp(scores - scores.max())
    return e / e.sum()
