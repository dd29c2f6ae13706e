"""What the tests of pictures share: made-up metrics, and what was drawn."""

import itertools
import math
from pathlib import Path

import numpy as np

from dist_llm.config import Config
from dist_llm.training.metrics_line import line_of
from dist_llm.training.run_dir import write_config


def made_up(n: int, eval_every: int = 0, spike_at: int = 0, seed: int = 0, **more: object) -> list[dict]:
    """Return the records of a run of n steps of 1,000 tokens, whose loss falls from 7 to about 3."""
    noise = np.random.default_rng(seed).normal(size=(2, n))
    records = []
    for step in range(1, n + 1):
        fall = 4 * math.exp(-30 * step / n)
        record = {"step": step, "tokens": 1000 * step, "loss": 3 + fall + 0.1 * noise[0, step - 1], "lr": 1e-3}
        record |= {
            "grad_norm": 1.0,
            "rss_bytes": [10**8] * 2,
            "tokens_per_s": 5000 * math.exp(0.3 * noise[1, step - 1]),
        }
        if step == spike_at:
            record["loss"] = 20.0
        if eval_every and step % eval_every == 0:
            record |= {"val_loss": 3.2 + fall, "val_seconds": 7.5}
        records.append(record | more)
    return records


def written(folder: Path, records: list[dict], **data: str) -> tuple[Path, Config]:
    """Write a run folder with these metrics."""
    config = Config().replace({"model": {"vocab_size": 2048}, "data": data})
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, config)
    (folder / "metrics.jsonl").write_bytes(b"".join(map(line_of, records)))
    return folder, config


class Drawn:
    """Remembers the last figure that was saved, and the texts that were drawn in it."""

    def __init__(self, monkeypatch) -> None:
        import matplotlib.figure
        import matplotlib.text

        save, draw = matplotlib.figure.Figure.savefig, matplotlib.text.Text.draw

        def saving(figure, *arguments, **more):
            self.figure, self.texts = figure, []
            save(figure, *arguments, **more)

        def drawing(text, renderer, *arguments, **more):
            if text.get_visible() and text.get_text().strip():
                self.texts.append(text)
            draw(text, renderer, *arguments, **more)

        monkeypatch.setattr(matplotlib.figure.Figure, "savefig", saving)
        monkeypatch.setattr(matplotlib.text.Text, "draw", drawing)

    @property
    def words(self) -> list[str]:
        """The texts, from the first on."""
        return [text.get_text() for text in self.texts]

    def lines(self, marker: str, axes: int = 0) -> list:
        """The lines in one of the axes that have such markers."""
        return [line for line in self.figure.axes[axes].lines if line.get_marker() == marker]

    def check_that_no_text_overlaps_or_is_cut_off(self) -> None:
        """Compare the boxes of all texts, as the renderer knows them, with each other and with the figure."""
        boxes = [(text.get_text(), text.get_window_extent()) for text in self.texts]
        assert len(boxes) > 8
        width, height = self.figure.bbox.size
        for text, box in boxes:
            assert 0 <= box.x0 < box.x1 <= width, text
            assert 0 <= box.y0 < box.y1 <= height, text
        for (text, box), (other, its) in itertools.combinations(boxes, 2):
            assert not box.overlaps(its), (text, other)
