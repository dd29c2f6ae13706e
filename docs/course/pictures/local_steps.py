"""What local steps do: how far the weights of two ranks are apart, step by step.

The picture starts this file on two ranks, which take the steps: python -m docs.course.pictures.local_steps FOLDER.
"""

import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dist_llm import LanguageModel, Loader, TrainStep, connect
from dist_llm.data import open_data, prepare
from dist_llm.measuring.jobs import choose_launcher
from dist_llm.measuring.plotting import SERIES, Drawing, Label
from dist_llm.model.llama import Llama
from dist_llm.parallel.placement import place

RANKS, STEPS = 2, 24
LOOKS = {12: (SERIES[0], "s"), 4: (SERIES[1], "o")}  # by the steps from one meeting to the next
GIVEN, FOUND = "given.pickle", "found.json"


def draw(run: LanguageModel) -> Drawing:
    """Let two ranks train on, and draw how far they are apart."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, GIVEN).write_bytes(pickle.dumps((run.config, run.model.vocab_size, run.model.params.data)))
        ranks = [*choose_launcher().command(RANKS, 1), sys.executable, "-m", __name__, folder]
        subprocess.run(ranks, check=True, cwd=Path(__file__).parents[3])
        found = json.loads(Path(folder, FOUND).read_text())

    def lines(axes: Any) -> Sequence[Label]:
        labels = []
        for every, (color, marker) in LOOKS.items():
            distances = 100 * np.array([0.0, *found[str(every)]])
            axes.plot(distances, color=color)
            meetings = range(0, STEPS + 1, every)
            axes.plot(meetings, distances[meetings], color=color, marker=marker, linestyle="none", clip_on=False)
            labels.append(Label(f"every {every} steps", every - 1, distances[every - 1], color, needed=True))
        axes.set(xlabel="step", ylabel="apart, in % of the weights' length", xticks=range(0, STEPS + 1, 4))
        axes.set(xlim=(0, STEPS), ylim=(0, None))
        axes.grid(visible=True)
        return labels

    words = "How far two ranks are apart: it grows in each step, and falls to zero in those after which they meet."
    return Drawing("how far two ranks are apart", words, 3.0, lines)


def distances(given: Path, every: int) -> list[float]:
    """Return by how much of their length the weights differ from their mean, step by step; collective."""
    config, vocab_size, weights = pickle.loads(given.read_bytes())
    local = {"strategy": "local", "local_steps": every}
    config = config.replace({"parallel": local, "optim": {"schedule": "constant", "warmup_steps": 0}})
    model, comm = Llama(config.model, vocab_size), connect()
    model.params.data[:] = weights
    step = TrainStep(config, Loader.of(open_data(prepare(config.data)).train, config), comm, model)
    found = []
    for _ in range(STEPS):
        step()
        mean = model.params.data / comm.size
        comm.allreduce_(mean)
        found.append(float(np.linalg.norm(model.params.data - mean) / np.linalg.norm(mean)))
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    place(connect(), 1)  # a core of its own
    found = {every: distances(folder / GIVEN, every) for every in LOOKS}
    if connect().rank == 0:
        (folder / FOUND).write_text(json.dumps(found))
