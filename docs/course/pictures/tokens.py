"""What merges do: a sentence in the tokens of a run's tokenizer, with the first of its merges and with all of them."""

from collections.abc import Sequence
from typing import Any

from dist_llm import LanguageModel
from dist_llm.measuring.plotting import PAPER, TINTS, Drawing, Label
from dist_llm.text.bpe import BPETokenizer

TEXT = "Return the list in reverse order."
MERGES = (0, 16, 64, 256)
GAP = 0.2  # between two tokens, in characters


def draw(run: LanguageModel) -> Drawing:
    """Draw the tokens as boxes, a row for each number of merges."""
    tokenizer = run.tokenizer
    assert isinstance(tokenizer, BPETokenizer)
    rows = []
    for n in (*MERGES, len(tokenizer.merges)):
        known = BPETokenizer.of_merges(tokenizer.merges[:n])
        rows.append((n, [known.token_bytes[i].decode() for i in known.encode(TEXT)]))

    def boxes(axes: Any) -> Sequence[Label]:
        for y, (n, tokens) in enumerate(rows):
            merges = f"{n:,} merges" if n else "bytes alone"
            axes.text(0, y - 0.42, f"{merges}: {len(tokens)} tokens", va="center")
            x = 0
            for token in tokens:
                axes.barh(y, len(token) - GAP, 0.5, x + GAP / 2, color=TINTS[0], edgecolor=PAPER, linewidth=0)
                for letter in token:
                    axes.text(x + 0.5, y, letter, ha="center", va="center", family="monospace")
                    x += 1
        axes.set(xlim=(0, len(TEXT)), ylim=(len(rows) - 0.7, -0.65))
        axes.set_axis_off()
        return []

    words = f"The sentence {TEXT!r} cut into tokens: " + ", ".join(f"{len(t)} with {n:,} merges" for n, t in rows)
    return Drawing("a sentence with more and more merges", words + ".", 3.1, boxes)
