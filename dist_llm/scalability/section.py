"""A part of the report: a table and words, the same for the terminal and for the page."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from dist_llm.benchmarking.table import aligned

Row = Sequence[str]
WIDTH = 116  # of words, in letters


@dataclass
class Section:
    """A table with its title, and words below it.

    Attributes
    ----------
    title : str
    rows : list of sequences of str
        The head first.
    left : tuple of int
        Columns that are words.
    words : list of str
        Paragraphs.
    """

    title: str
    rows: list[Row] = field(default_factory=list)
    left: tuple[int, ...] = (0,)
    words: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return it for a terminal."""
        lines = aligned(self.rows, self.left) if self.rows else []
        for paragraph in self.words:
            lines += textwrap.wrap(paragraph, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        return "\n".join([self.title, *(f"  {line}" for line in lines)])


def between(values: Sequence[float], digits: int, unit: str = "") -> str:
    """Return two figures, as one where they look the same."""
    first, last = (
        (f"{value:,.{digits}f}" for value in values) if len(values) == 2 else (f"{values[0]:,.{digits}f}",) * 2
    )
    return f"{first}{unit}" if first == last else f"{first}..{last}{unit}"
