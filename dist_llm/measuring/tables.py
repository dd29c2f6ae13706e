"""Tables with a title and words, for a terminal or a page."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

Row = Sequence[str]
WIDTH = 116  # of words, in letters


@dataclass
class Section:
    """A table with its title, and words below it."""

    title: str
    rows: list[Row] = field(default_factory=list)  # the head first
    left: tuple[int, ...] = (0,)  # columns that are words
    words: list[str] = field(default_factory=list)  # paragraphs

    def text(self) -> str:
        """Return it for a terminal."""
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        lines = []
        for row in self.rows:
            cells = enumerate(zip(row, widths, strict=True))
            lines.append("  ".join(c.ljust(w) if i in self.left else c.rjust(w) for i, (c, w) in cells).rstrip())
        for paragraph in self.words:
            lines += textwrap.wrap(paragraph, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        return "\n".join([self.title, *(f"  {line}" for line in lines)])


def between(values: Sequence[float], digits: int, unit: str = "") -> str:
    """Return figures as text, those that look the same as one."""
    return "..".join(dict.fromkeys(f"{value:,.{digits}f}" for value in values)) + unit


def count(n: int, noun: str) -> str:
    """Return ``1 rank``, ``2 ranks``."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def duration(seconds: float) -> str:
    """Return ``40 s``, ``12 min``."""
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
