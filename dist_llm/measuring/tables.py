"""Tables with a title and words, for a terminal or a page.

A table that is wider than the terminal is narrowed first: heads are wrapped, and long cells. If that is not enough it
is divided into blocks, one below another, each of which begins with the first column again.
"""

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dist_llm.training.progress import terminal_columns

Row = Sequence[str]
READABLE = 116  # letters in a line of words, however wide the terminal is
WHOLE = 28  # letters: a cell up to here stays on one line
GAP = "  "


@dataclass
class Section:
    """A table with its title, and words below it."""

    title: str
    rows: list[Row] = field(default_factory=list)  # the head first
    left: tuple[int, ...] = (0,)  # columns that are words
    words: list[str] = field(default_factory=list)  # paragraphs

    def text(self, columns: int | None = None) -> str:
        """Return it for a terminal of so many columns, or of as many as there are."""
        columns = columns or _columns()
        room, lines = columns - len(GAP), list[str]()
        for number, (block, widths) in enumerate(self._blocks(room)):
            lines += [""] * (number > 0)
            lines += [line for row in self.rows for line in self._lines(row, block, widths)]
        for paragraph in self.words:
            lines += wrap(paragraph, room).splitlines()
        return "\n".join([wrap(self.title, columns), *(f"{GAP}{line}".rstrip() for line in lines)])

    def narrowest(self, whole: int = WHOLE) -> list[int]:
        """Return how many letters each column takes at least, if only cells of more than `whole` are wrapped."""
        head, *body = self.rows
        words = [max(map(len, cell.split()), default=0) for cell in head]
        return [min(whole, max([1, word, *(len(row[i]) for row in body)])) for i, word in enumerate(words)]

    def _blocks(self, room: int) -> Iterator[tuple[list[int], list[int]]]:
        """Yield which columns stand beside each other, and their widths."""
        least = self.narrowest(min(WHOLE, (room - len(GAP)) // 2)) if self.rows else []
        blocks: list[list[int]] = [[0]] if least else []
        for group in self._groups():
            fits = _width([least[i] for i in (0, *group)]) <= room
            for columns in [group] if fits else [[i] for i in group]:
                if len(blocks[-1]) > 1 and _width([least[i] for i in (*blocks[-1], *columns)]) > room:
                    blocks.append([0])
                blocks[-1] += columns
        for block in blocks:
            widths = [least[i] for i in block]
            for place, i in enumerate(block):  # what is left goes to the first that would be wrapped
                whole = max(len(row[i]) for row in self.rows)
                widths[place] += min(room - _width(widths), max(0, whole - widths[place]))
            yield block, widths

    def _groups(self) -> Iterator[list[int]]:
        """Yield the columns after the first; one whose head is in brackets belongs to the one before it."""
        group: list[int] = []
        for i, head in enumerate(self.rows[0][1:] if self.rows else (), 1):
            if group and not head.startswith("("):
                yield group
                group = []
            group.append(i)
        if group:
            yield group

    def _lines(self, row: Row, block: Sequence[int], widths: Sequence[int]) -> Iterator[str]:
        """Yield the lines of a row: those of a head end together, those of other rows begin together."""
        cells = [textwrap.wrap(row[i], width, break_on_hyphens=False) for i, width in zip(block, widths, strict=True)]
        height = max(map(len, cells))
        for i, lines in enumerate(cells):
            empty = [""] * (height - len(lines))
            cells[i] = empty + lines if row is self.rows[0] else lines + empty
        for parts in zip(*cells, strict=True):
            triples = zip(parts, widths, block, strict=True)
            yield GAP.join(part.ljust(w) if i in self.left else part.rjust(w) for part, w, i in triples)


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def wrap(words: str, columns: int | None = None) -> str:
    """Return words for a terminal of so many columns, or of as many as there are."""
    columns = min(READABLE, columns or _columns())
    return textwrap.fill(words, columns, subsequent_indent=GAP, break_on_hyphens=False)


def _columns() -> int:
    """Return the width of the terminal; where there is none, that of the variable COLUMNS, or 80."""
    return terminal_columns() or shutil.get_terminal_size().columns


def between(values: Sequence[float], digits: int, unit: str = "") -> str:
    """Return figures as text, those that look the same as one."""
    return "..".join(dict.fromkeys(f"{value:,.{digits}f}" for value in values)) + unit


def count(n: int, noun: str) -> str:
    """Return ``1 rank``, ``2 ranks``."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def duration(seconds: float) -> str:
    """Return ``40 s``, ``12 min``."""
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
