"""Corpora: a text as a list of documents, from Python's own documentation, a download, or your own files.

A document is what belongs together: a story, a file, a module's docstrings. Documents matter twice. The split
holds whole ones out for validation, and the tokenizer's end-of-text token stands between them.
"""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dist_llm.config import DataConfig
from dist_llm.data.download import REMOTES, download
from dist_llm.data.python_docs import python_docs
from dist_llm.errors import UserError

SEPARATOR = "<|endoftext|>"  # alone on a line, as TinyStories and others write it


@dataclass(frozen=True)
class Corpus:
    """A text and where it comes from.

    Attributes
    ----------
    name : str
        Short; part of the name of the prepared folder.
    documents : list of str
        In the corpus's own order, none of them empty.
    description : str
        One line for a person.
    """

    name: str
    documents: list[str]
    description: str


def read_corpus(config: DataConfig, progress: bool = False) -> Corpus:
    """Read the text that a configuration names, downloading it into ``cache_dir`` the first time.

    Parameters
    ----------
    config : DataConfig
        ``path`` wins over ``corpus``.
    progress : bool
        Show bars on stderr.

    Raises
    ------
    UserError
        No such file, not UTF-8, no text in it, or a download that failed.
    """
    name = corpus_name(config)
    if config.path is not None:
        return _read_path(name, Path(config.path).expanduser())
    if config.corpus == "python-docs":
        documents = python_docs(progress)
        return Corpus(name, documents, f"help topics and docstrings of Python {platform.python_version()}")
    remote = REMOTES[config.corpus]
    file = Path(config.cache_dir).expanduser() / "downloads" / remote.url.rpartition("/")[2]
    # The checksum is in the name: tinyshakespeare's own name is only "input.txt".
    file = file.with_name(f"{remote.sha256[:8]}-{file.name}")
    if not file.is_file():
        download(remote.url, file, remote.sha256, remote.n_bytes, progress)
    return Corpus(name, list(_documents(file)), remote.description)


def corpus_name(config: DataConfig) -> str:
    """Return the name of the corpus, or of the user's file or folder."""
    if config.path is None:
        return config.corpus
    path = Path(config.path).expanduser().resolve()
    # A file name may fill all 255 bytes that file systems allow; the prepared folder's name adds to it.
    return (path.stem or "root")[:40]


def corpus_key(config: DataConfig) -> str:
    """Identify the text without reading it: equal keys mean equal text.

    Returns
    -------
    str
        A download's name and checksum; python-docs with Python's version; for the user's own files the path,
        size and time of change of each.

    Raises
    ------
    UserError
        ``data.path`` names nothing readable.
    """
    if config.path is None:
        version = platform.python_version() if config.corpus == "python-docs" else REMOTES[config.corpus].sha256
        return f"{config.corpus} {version}"
    path = Path(config.path).expanduser()
    stats = [(file.resolve(), file.stat()) for file in _files(path)]
    return "\n".join(f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats)


def _read_path(name: str, path: Path) -> Corpus:
    files = _files(path)
    documents: list[str] = []
    skipped = 0
    for file in files:
        try:
            # list() first, so that a bad byte late in a file leaves none of its documents behind.
            documents += list(_documents(file))
        except UnicodeDecodeError as error:
            # In a folder a picture among the texts is no surprise; a file named on purpose must be text.
            if file == path:
                raise UserError(f"{path} is not UTF-8 text: convert it first, e.g. iconv -f latin1 -t utf-8") from error
            skipped += 1
        except OSError as error:
            raise UserError(f"cannot read {file} ({error.strerror}): make it readable or move it away") from error
    if not documents:
        detail = f" ({skipped} files are not UTF-8)" if skipped else ""
        raise UserError(f"{path} holds no text{detail}: name a UTF-8 file, or a folder of them, with --data.path")
    description = f"{path}, {len(files) - skipped} files" if path.is_dir() else str(path)
    return Corpus(name, documents, description + (f", {skipped} skipped that are not UTF-8" if skipped else ""))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"there is no file or folder {path}: correct --data.path")
    below = [file for file in path.rglob("*") if file.is_file()]
    return sorted(file for file in below if not any(part.startswith(".") for part in file.relative_to(path).parts))


def _documents(path: Path) -> Iterator[str]:
    """Yield the documents of a file: the whole, exactly as it is, or what stands between separator lines.

    Line by line, because a string takes four bytes per character as soon as it holds a single emoji: 2 GB of
    TinyStories would be 8 as one string, but only the stories that have one pay for it.
    """
    # utf-8-sig drops the mark with which Windows begins a text; newline="" keeps every line ending.
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines: list[str] = []
        divided = False
        for line in file:
            if line.strip() != SEPARATOR:
                lines.append(line)
                continue
            divided = True
            yield from _stripped(lines)
            lines = []
        # The line breaks beside a separator belong to the separator; an undivided text keeps all of its own.
        yield from _stripped(lines) if divided else filter(str.strip, ["".join(lines)])


def _stripped(lines: list[str]) -> Iterator[str]:
    text = "".join(lines).strip("\r\n")
    if text.strip():
        yield text
