"""What the death of a rank leaves in the weights: the runs of the third lab, made by its own script."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dist_llm
from dist_llm import LanguageModel
from dist_llm.measuring.plotting import INK, SERIES, Drawing, Label
from dist_llm.training.checkpoint import list_checkpoints, step_of
from dist_llm.training.metrics import read_metrics
from docs.course.pictures._page import text_of

STRATEGIES = ("overlapped", "deterministic")


def draw(_: LanguageModel) -> Drawing:
    """Train the lab's models, and draw how many of their weights differ, step by step."""
    script = text_of("labs/3-kill-a-rank.md", "kill.py")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    shares, deaths, steps = {}, {}, []
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder, "runs")
        runs.mkdir()
        for strategy in STRATEGIES:
            command = [sys.executable, "-c", script, strategy]
            subprocess.run(command, cwd=folder, env=os.environ | {"PATH": path}, check=True, stdout=subprocess.DEVNULL)
            whole, killed = runs / f"{strategy}-whole", runs / f"{strategy}-killed"
            pairs = list(zip(list_checkpoints(whole), list_checkpoints(killed), strict=True))
            steps = [step_of(checkpoint) for checkpoint, _ in pairs]
            shares[strategy] = [100 * np.mean(_bits(a) != _bits(b)) for a, b in pairs]
            (deaths[strategy],) = [loss["in_step"] for r in read_metrics(killed) for loss in r.get("lost", [])]

    def lines(axes: Any) -> Sequence[Label]:
        labels = []
        for strategy, color, marker in zip(STRATEGIES, (SERIES[1], SERIES[0]), "so", strict=True):
            axes.plot(steps, shares[strategy], color=color, marker=marker, markersize=4)
            axes.axvline(deaths[strategy], color=color, linewidth=0.8, linestyle=":")
            labels.append(Label(strategy, steps[-6], shares[strategy][-6], color, needed=True))
        axes.set(xlabel="step", ylabel="weights that differ, %", ylim=(-5, 105))
        axes.grid(visible=True)
        return [*labels, Label("a rank dies", deaths["overlapped"], 50, INK, needed=True)]

    words = (
        "How many weights differ from a run in which no rank died: nearly all, or with the deterministic strategy none."
    )
    return Drawing("weights that differ after a rank's death", words, 2.8, lines)


def _bits(checkpoint: Path) -> np.ndarray:
    """Return a checkpoint's weights as what they are in memory."""
    return dist_llm.load(checkpoint).model.params.data.view(np.uint32)
