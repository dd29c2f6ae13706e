"""The split of a list of texts, as one would explain it; that of dist_llm works on a table of hashes and lengths."""

import hashlib
from collections.abc import Sequence
from fractions import Fraction


def split_documents(documents: Sequence[str], val_fraction: float) -> tuple[list[str], list[str]]:
    """Return the training and the validation texts; the one on the border is cut."""
    first_of: dict[str, str] = {}
    for text in documents:
        first_of.setdefault(text.strip(), text)
    unique = list(first_of.values())
    n_characters = sum(map(len, unique))
    # In binary 1 - 0.9 is a little less than 0.1, and that fraction of ten characters would round down to none;
    # the fraction of the decimal digits that the user wrote is exact.
    wanted = n_characters - int(n_characters * (1 - Fraction(str(val_fraction))))

    train_length = [len(text) for text in unique]
    for i in sorted(range(len(unique)), key=lambda i: hashlib.sha256(unique[i].strip().encode()).digest()):
        taken = min(len(unique[i]), wanted)
        train_length[i] -= taken
        wanted -= taken
        if not wanted:
            break

    train = [text[:n] for text, n in zip(unique, train_length, strict=True) if n > 0]
    val = [text[n:] for text, n in zip(unique, train_length, strict=True) if n < len(text)]
    return train, val
