"""Where a text may be cut so that the tokens of its parts are those of the whole.

A text of gigabytes is worked on part by part. Between a letter or a digit and the white space after it, every pattern
that cuts text into pieces cuts too: in GPT-2's and Llama 3's, and in those of GPT-4o and DeepSeek, a word may take the
space before it along, and never what is white behind it. None of them looks back, so what follows is cut as before.
"""

from collections.abc import Iterable, Iterator

import regex

SEAM = regex.compile(r"[\p{L}\p{N}](?=\s)")

# So many characters without a seam are no words. They are cut all the same: to merge them as one piece would take
# a hundred times their memory.
LONGEST = 1 << 20


def find_seam(text: str, start: int) -> int | None:
    """Return the first place from `start` on where the text may be cut; None if there is none."""
    match = SEAM.search(text, max(0, start - 1))
    return match.end() if match else None


def parts(text: str, size: int = LONGEST) -> Iterator[str]:
    """Cut a text at seams into parts of at least `size` characters and, where there are words, few more."""
    start = 0
    while len(text) - start > size:
        match = SEAM.search(text, start + size - 1, start + size + LONGEST)
        if match is None and len(text) - start <= size + LONGEST:
            break
        end = match.end() if match else start + size
        yield text[start:end]
        start = end
    yield text[start:]


def batches(texts: Iterable[str], size: int, most: int) -> Iterator[list[str]]:
    """Gather texts into lists of about `size` characters, until there are `most`; what is longer is cut at seams."""
    batch: list[str] = []
    held = 0
    for text in texts:
        for part in parts(text[:most], size):
            batch.append(part)
            held += len(part)
            if held >= size:
                yield batch
                batch, held = [], 0
        most -= len(text)
        if most <= 0:
            break
    if batch:
        yield batch
