"""A small text of several documents, and what preparing it leaves."""

import json
from pathlib import Path

from dist_llm.config import DataConfig

STORIES = [f"Story {i}: the {animal} and the {i * i}th tree.\n" for i, animal in enumerate(["fox", "owl", "cat"] * 9)]


def cached(config: DataConfig) -> list[str]:
    cache = Path(config.cache_dir)
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


def contents(folder: Path) -> dict[str, bytes]:
    """The content of all files, but for what meta.json says of the time that it took."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    meta = json.loads(files.pop("meta.json"))
    return files | {"meta.json": json.dumps(meta | {"seconds": 0}).encode()}
