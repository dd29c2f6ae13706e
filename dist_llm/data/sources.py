"""What --data.path names: files, folders and patterns, one or several, each with a weight.

    corpus.txt                  a file
    books                       a folder: all visible files below it
    'corpus/*.jsonl.gz'         a pattern: all files that match
    books,wiki.jsonl            both
    books:3,wiki.jsonl:0.5      each text of books three times, and half of those of wiki.jsonl

A name that exists is taken as it is, so it may have commas and colons in it.
"""

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from dist_llm.data.opening import packing
from dist_llm.errors import UserError

WEIGHTED = re.compile(r"(.+):(\d+(?:\.\d+)?)")
PATTERN = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Source:
    """Files that are trained on with one weight.

    Attributes
    ----------
    path : Path
        As the user names it: a file, a folder, or a pattern.
    weight : float
        How often each of its texts is trained on in an epoch.
    """

    path: Path
    weight: float = 1.0

    def files(self) -> list[Path]:
        """Return its files, in order."""
        if self.path.exists():
            return _below(self.path)
        return [file for match in sorted(glob.glob(str(self.path), recursive=True)) for file in _below(Path(match))]

    @property
    def is_file(self) -> bool:
        """Whether it is one file, named on purpose."""
        return self.path.is_file()

    @property
    def name(self) -> str:
        """A short name, of which a pattern has none but that of its folder."""
        path = self.path.resolve()
        while PATTERN.search(path.name) and not path.exists():
            path = path.parent
        return (path.with_suffix("") if packing(path) else path).stem or "root"

    def __str__(self) -> str:
        return f"{self.path}" + (f":{self.weight:g}" if self.weight != 1 else "")


def find_sources(path: str) -> list[Source]:
    """Return the sources that --data.path names.

    Raises
    ------
    UserError
        One does not exist, or has a weight of 0.
    """
    words = path.split(",")
    sources: list[Source] = []
    at = 0
    while at < len(words):
        # The longest name that exists: a comma may be part of it.
        for end in range(len(words), at, -1):
            if source := _find(",".join(words[at:end])):
                break
        else:
            missing = Path(words[at]).expanduser()
            raise UserError(
                f"no file matches {missing}: correct --data.path"
                if PATTERN.search(words[at])
                else f"there is no file or folder {missing}: correct --data.path"
            )
        sources.append(source)
        at = end
    return sources


def full_path(path: str) -> str:
    """Return --data.path as it holds from another folder too."""
    try:
        sources = find_sources(path)
    except UserError:  # to be told where the text is needed: a run may go on without it
        return str(Path(path).expanduser().resolve())
    return ",".join(str(Source(source.path.resolve(), source.weight)) for source in sources)


def _find(name: str) -> Source | None:
    match = WEIGHTED.fullmatch(name)
    for written, weight in ((name, 1.0), *([(match[1], float(match[2]))] if match else [])):
        source = Source(Path(written).expanduser(), weight)
        if written and (source.path.exists() or (PATTERN.search(written) and source.files())):
            if weight == 0:
                raise UserError(f"the weight of {written} in --data.path is 0: leave it out, or give it a weight above")
            return source
    return None


def _below(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    below = [file for file in path.rglob("*") if file.is_file()]
    return sorted(file for file in below if not any(part.startswith(".") for part in file.relative_to(path).parts))
