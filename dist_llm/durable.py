"""Files that are whole or not there, whenever the machine stops."""

import os
from pathlib import Path


def fsync(path: Path) -> None:
    """Wait until a file or folder has reached the disk; without that, a rename may get there before the content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file, in place of an older one if there is one."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    fsync(temporary)
    os.replace(temporary, path)


def write_text(path: Path, text: str) -> None:
    """Write a small file of text, as `write_bytes`."""
    write_bytes(path, text.encode())
