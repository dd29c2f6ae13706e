"""The corpus that is on every machine with Python: the English of Python's own documentation.

Its documents are the help topics of `pydoc` (what ``help("for")`` prints) and, one document per module, the
docstrings of the standard library. About 2 MB of careful technical prose, read without a network in a few
seconds. The text differs a little from one version of Python to the next, so the version is part of its name.
"""

import ast
import gc
import os
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

# Installed packages are not the standard library; tests and idlelib's are notes of programmers to each other.
SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"}

# Where a statement keeps the statements inside it, in the order of the source.
BLOCKS = ("body", "cases", "handlers", "orelse", "finalbody")


def python_docs(progress: bool = False) -> list[str]:
    """Read the documentation of the running Python.

    Parameters
    ----------
    progress : bool
        Show a bar on stderr.

    Returns
    -------
    list of str
        Help topics by name, then modules by path. A docstring that was seen before is left out.
    """
    # Imported here because its topics are half a megabyte that other corpora never need.
    from pydoc_data.topics import topics

    documents = [topics[name] for name in sorted(topics)]
    library = Path(sysconfig.get_path("stdlib"))
    seen: set[str] = set()
    # The garbage collector would look through every growing syntax tree again and again: a third of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        files = _python_files(library)
        for path in tqdm(files, desc="reading docstrings", unit=" files", disable=not progress):
            new = [text for text in dict.fromkeys(_docstrings(path)) if text not in seen]
            seen.update(new)
            if new:
                documents.append("\n\n".join([_module_name(path.relative_to(library)), *new]))
    finally:
        if collecting:
            gc.enable()
    return documents


def _python_files(library: Path) -> list[Path]:
    files = []
    for folder, subfolders, names in os.walk(library):
        # os.walk descends into what is left in this list; site-packages may hold more than the rest.
        subfolders[:] = set(subfolders) - SKIPPED_FOLDERS
        files += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(files)


def _docstrings(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            # An old module's invalid escape is not this program's warning.
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # a template or deliberately broken example that some distributions ship
    yield from _docstrings_below(tree)


def _docstrings_below(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text:
            # A docstring may spell half of a surrogate pair with an escape; UTF-8 cannot.
            yield text.encode("utf-8", "replace").decode("utf-8")
    # Definitions stand among statements: not to look into expressions saves half of the walk's time.
    for block in BLOCKS:
        for child in getattr(node, block, ()):
            yield from _docstrings_below(child)


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
