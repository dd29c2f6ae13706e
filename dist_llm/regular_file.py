"""Reading files that may come from elsewhere: regular files only, and only as much of them as can be meant.

In a run, a checkpoint or a tokenizer that somebody has sent there may be a FIFO, on which a reader waits for ever, a
device that has no end, a file of many gigabytes, or JSON that is nested a million times. Each is an error here, before
it costs anything. Links are followed where a file is read: the caches of Hugging Face consist of them.
"""

import errno
import io
import json
import os
import stat
from pathlib import Path
from typing import Any

CONFIG_BYTES = 1 << 18  # of a configuration in TOML: one of ours has 6 kB, and deeply nested ones are slow to read
JSON_BYTES = 1 << 22  # of what describes a model or a folder
TOKENIZER_BYTES = 1 << 25  # of a tokenizer.json: Llama 3's has 17 MB


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading.

    Raises
    ------
    OSError
        It cannot be opened, or is a folder, a FIFO or a device.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError as error:  # a zero, or half of a surrogate pair, in its name
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: Path, most: int) -> bytes:
    """Return the content of a file that may have `most` bytes.

    Raises
    ------
    OSError
        As `open_regular`, or it is larger.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most:,} bytes", str(path))
    return content


def read_json(path: Path, most: int = JSON_BYTES) -> Any:
    """Return what is in a JSON file that may have `most` bytes.

    Raises
    ------
    OSError
        As `read_bytes`.
    ValueError
        It is not JSON, or nested too deeply.
    """
    try:
        return json.loads(read_bytes(path, most))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_plain_name(name: object) -> bool:
    """Whether something is the name of a file inside a folder, and leads nowhere else."""
    return isinstance(name, str) and name not in ("", ".", "..") and "/" not in name and name.isprintable()
