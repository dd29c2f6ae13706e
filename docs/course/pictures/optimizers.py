"""What Muon is for: how far a gradient, a step of AdamW and one of Muon move a matrix in each of its directions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dist_llm import LanguageModel, Loader
from dist_llm.data import open_data, prepare
from dist_llm.measuring.plotting import SERIES, Drawing, Label
from dist_llm.optim.adamw import AdamW
from dist_llm.optim.muon import Muon


def draw(run: LanguageModel) -> Drawing:
    """Draw singular values: of a batch's gradient, and of the first step that each optimizer makes of it."""
    model, params = run.model, run.model.params
    tokens, targets = Loader.of(open_data(prepare(run.config.data)).train, run.config).batch(0)
    params.grad[...] = 0
    _, cache = model.loss(tokens, targets)
    model.loss_backward(1 / targets.size, cache)
    matrix = params["model.layers.1.self_attn.q_proj.weight"]
    spectra = {"gradient": singular_values(matrix.grad)}
    before = params.data.copy()
    config = replace(run.config.optim, weight_decay=0.0, muon_weight_decay=0.0)
    for name, optimizer_class in (("AdamW's step", AdamW), ("Muon's step", Muon)):
        optimizer = optimizer_class(params, config, roles=["hidden"])
        optimizer.prepare()
        optimizer.step(config.lr)
        spectra[name] = singular_values(before[matrix.slice].reshape(matrix.shape) - matrix.data)
        params.data[...] = before

    def lines(axes: Any) -> Sequence[Label]:
        labels = []
        for (name, values), color in zip(spectra.items(), (SERIES[1], SERIES[2], SERIES[0]), strict=True):
            numbers = np.arange(1, len(values) + 1)
            axes.plot(numbers, values, color=color)
            labels.append(Label(name, numbers[-1], values[-1], color, needed=True))
        axes.set(xlabel="direction, from the largest to the smallest", ylabel="singular value", yscale="log")
        axes.set_yticks([0.001, 0.01, 0.1, 1], ["0.001", "0.01", "0.1", "1"])
        axes.set_xticks(range(0, len(values) + 1, 40))
        axes.set_xlim(-2, 1.3 * len(values))
        axes.grid(visible=True)
        return labels

    words = "The singular values of the gradient of a matrix, and of a first step of AdamW and of Muon."
    return Drawing("how far a step goes in each direction", words, 3.0, lines)


def singular_values(x: np.ndarray) -> np.ndarray:
    """Return the singular values of a matrix, divided by their root mean square."""
    values = np.linalg.svd(x, compute_uv=False)
    return values / np.sqrt(np.mean(values**2))
