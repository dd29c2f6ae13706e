"""What a resumed run needs of the one before: how far its losses come from an unbroken run's if a part is missing."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm import LanguageModel, Loader, TrainStep
from dist_llm.data.preparation import open_data
from dist_llm.measuring.plotting import INK, SERIES, Drawing, Label
from dist_llm.training.load_run import shards_of_run

STOP, END = 20, 40
SMALLEST = 1e-8  # below it, the axis is linear down to 0


def draw(run: LanguageModel) -> Drawing:
    """Draw how the losses of resumed runs differ from those of an unbroken one."""
    tokens = open_data(shards_of_run(run.config, run.state)).train
    config = run.config.replace({"optim": {"average": 0.0}})
    finer = config.replace({"train": {"micro_batch_size": 1}})

    unbroken = TrainStep(config, Loader.of(tokens, config))
    _losses(unbroken, STOP)
    checkpoint = {part: {n: a.copy() for n, a in arrays.items()} for part, arrays in unbroken.state_dict().items()}
    expected = _losses(unbroken, END)

    def resumed(parts: dict[str, Any], settings: Any = config, loader: Loader | None = None) -> np.ndarray:
        step = TrainStep(settings, loader or Loader.of(tokens, settings))
        step.load_state_dict(parts, STOP)
        return np.abs(_losses(step, END) - expected)

    lines = [
        ("without its place in the data", resumed(checkpoint, loader=_Again.of(tokens, config)), SERIES[1], "s"),
        ("without the optimizer's memory", resumed({"model": checkpoint["model"]}), SERIES[3], "^"),
        ("all of it, in other micro-batches", resumed(checkpoint, finer), SERIES[2], "v"),
        ("all of it: 0", resumed(checkpoint), SERIES[0], "o"),
    ]

    def draw_lines(axes: Any) -> Sequence[Label]:
        steps = np.arange(STOP + 1, END + 1)
        for _, distances, color, marker in lines:
            axes.plot(steps, distances, color=color, marker=marker, markersize=3)
        axes.axvline(STOP + 0.5, color=INK, linewidth=0.8, linestyle=":")
        axes.set_yscale("symlog", linthresh=SMALLEST)
        axes.set(xlabel="step", ylabel="distance of the loss, in nats", ylim=(-SMALLEST / 2, 40))
        axes.set_yticks([0, 1e-8, 1e-6, 1e-4, 1e-2, 1], ["0", "10⁻⁸", "10⁻⁶", "10⁻⁴", "0.01", "1"])
        axes.set(xlim=(STOP - 1, END + 1), xticks=range(STOP, END + 1, 5))
        axes.minorticks_off()
        axes.grid(visible=True)
        places = (int(np.argmax(lines[0][1])), 13, 13, 13)
        return [
            Label(words, steps[place], distances[place], color, needed=True)
            for (words, distances, color, _), place in zip(lines, places, strict=True)
        ]

    words = "Losses of resumed runs: how far they are from an unbroken run's, by what they were resumed from."
    return Drawing("what a resumed run needs", words, 3.4, draw_lines)


class _Again(Loader):
    """Forgets how far the run was."""

    def batch(self, step: int, *rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the batch of a run that begins only now."""
        return super().batch(step - STOP, *rank)


def _losses(step: TrainStep, until: int) -> np.ndarray:
    """Take steps, and return their losses."""
    return np.array([step().loss for _ in range(step.step, until)])
