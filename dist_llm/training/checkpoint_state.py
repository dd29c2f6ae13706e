"""``state.json``, which says of a checkpoint what it is, and of its files and itself which checksums they have.

A checksum tells damage, but not ill will, which computes it anew: the types of the values are checked too.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dist_llm.errors import UserError
from dist_llm.regular_file import is_plain_name, read_json

FORMAT = 2
INTERLEAVED = 1  # the format in which q_proj and k_proj were in the order of memory
STATE = "state.json"
DIGEST = re.compile(r"[0-9a-f]{64}")
LARGEST = 1 << 60  # of a number of steps or of tokens


class DamagedCheckpointError(UserError):
    """A checkpoint whose files are not what was written."""


def read_state(folder: Path) -> dict[str, Any]:
    """Return the contents of a checkpoint's state.json.

    Raises
    ------
    DamagedCheckpointError
        It is missing, truncated or altered.
    """
    try:
        document: dict[str, Any] = read_json(folder / STATE)
        written = document["sha256"].pop(STATE)
        digest = digest_of(document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedCheckpointError(f"{folder} is damaged: {STATE} is missing or truncated") from error
    if document.get("format") not in (INTERLEAVED, FORMAT):
        raise DamagedCheckpointError(f"{folder}: format {document.get('format')}, this version reads 1 and {FORMAT}")
    if written != digest:
        raise DamagedCheckpointError(f"{folder} is damaged: {STATE} was altered")
    if wrong := _wrong_values(document):
        raise DamagedCheckpointError(f"{folder} is damaged: {STATE} has a wrong value of {', '.join(wrong)}")
    return document


def val_loss(folder: Path) -> float:
    """Return a checkpoint's validation loss; infinity if none was measured there, or if it is damaged."""
    try:
        return readable_val_loss(folder)
    except OSError:
        return math.inf


def readable_val_loss(folder: Path) -> float:
    """Return what `val_loss` does, but for a file that cannot be read now and may say something else later.

    Raises
    ------
    OSError
        It cannot be read.
    """
    try:
        loss = read_state(folder).get("val_loss")
    except DamagedCheckpointError as error:
        if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
            raise error.__cause__ from None
        return math.inf
    return math.inf if loss is None or math.isnan(loss) else loss


def _wrong_values(document: Mapping[str, Any]) -> list[str]:
    """Return the keys of a state whose values are not what a run writes."""
    checks: dict[str, Callable[[Any], bool]] = {
        "step": _is_count,
        "tokens": _is_count,
        "seed": lambda value: isinstance(value, int) and not isinstance(value, bool),
        "val_loss": lambda value: value is None or isinstance(value, float) or _is_count(value),
        "shards": lambda value: isinstance(value, str),
        "train_tokens": lambda value: isinstance(value, str),
        "precision": lambda value: isinstance(value, str),
        "sha256": lambda files: all(is_plain_name(name) and _is_digest(digest) for name, digest in files.items()),
    }
    optional = checks.keys() - {"step", "sha256"}
    return [
        key for key, is_right in checks.items()
        if not (is_right(document[key]) if key in document else key in optional)
    ]  # fmt: skip


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def digest_of(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a state, in hex."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
