"""The split into training and validation text.

The validation loss says something about new text only if none of it was trained on. Hence duplicates go
first, and documents are held out whole. Which ones is decided by a hash of their text: another order of the
same documents holds out the same ones, and a new document moves others only near the border.
"""

import hashlib
from collections.abc import Sequence
from fractions import Fraction


def split_documents(documents: Sequence[str], val_fraction: float) -> tuple[list[str], list[str]]:
    """Hold out an exact fraction of the characters.

    Documents go to validation in the order of the SHA-256 of their text. The one on the border is cut: its
    head is trained on, its tail validated. A corpus of one document is thus cut once.

    Parameters
    ----------
    documents : sequence of str
        Documents; of those that differ at most in white space around them, only the first stays.
    val_fraction : float
        Fraction of the characters for validation, in [0, 1).

    Returns
    -------
    train, val : list of str
        Each in the original order. With n characters left after dropping duplicates, train has
        ``floor(n * (1 - val_fraction))`` of them.
    """
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
