"""For pictures of what a page measures: they are made by the page's own scripts."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from dist_llm.measuring.jobs import SETTINGS, choose_launcher

COURSE = Path(__file__).parents[1]


def saved_by(page: str, script: str, ranks: int) -> np.ndarray:
    """Return what ranks of a page's script save, in a file of the script's name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / script
        path.write_text(text_of(page, script))
        command = [*choose_launcher().command(ranks, 1), sys.executable, script]
        subprocess.run(command, check=True, cwd=folder, env=SETTINGS | os.environ, stdout=subprocess.DEVNULL)
        array: np.ndarray = np.load(path.with_suffix(".npy"))
    return array


def names_of(page: str, script: str) -> dict[str, Any]:
    """Return what a page's script defines."""
    names: dict[str, Any] = {}
    exec(text_of(page, script), names)
    return names


def text_of(page: str, script: str) -> str:
    """Return a page's script."""
    found = re.search(rf"```python\n(# File: {script}\n.*?)```", (COURSE / page).read_text(), re.DOTALL)
    assert found, f"{page} has no {script}"
    return found[1]
