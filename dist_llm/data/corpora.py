"""Corpora: a text as a list of documents, from Python's own documentation, a download, or your own files.

A document is what belongs together: a story, a file, a module's docstrings. Documents matter twice. The split
holds whole ones out for validation, and the tokenizer's end-of-text token stands between them.
"""

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dist_llm.config import DataConfig
from dist_llm.data.download import REMOTES, Remote, download
from dist_llm.data.python_docs import python_docs
from dist_llm.errors import UserError

SEPARATOR = "<|endoftext|>"  # alone on a line, as TinyStories and others write it


@dataclass(frozen=True)
class Text:
    """What a corpus holds.

    Attributes
    ----------
    documents : list of str
        In the corpus's own order, none of them empty.
    description : str
        One line for a person.
    """

    documents: list[str]
    description: str


@dataclass(frozen=True)
class Corpus:
    """A text that has been found, and not been read yet.

    Attributes
    ----------
    name : str
        Short; part of the name of the prepared folder.
    key : str
        Equal keys mean equal text. A download's name and checksum; python-docs with Python's version; for the user's
        own files the path, size and time of change of each.
    read : callable
        Takes whether to show bars on stderr, and returns the `Text`. Raises `UserError` if it is not UTF-8, empty or
        unreadable, or if its download fails.
    """

    name: str
    key: str
    read: Callable[[bool], Text]


def find_corpus(config: DataConfig) -> Corpus:
    """Return the corpus that a configuration names; ``path`` wins over ``corpus``.

    Raises
    ------
    UserError
        ``path`` names nothing readable.
    """
    if config.path is not None:
        path = Path(config.path).expanduser()
        files = _files(path)
        stats = [(file.resolve(), file.stat()) for file in files]
        key = "\n".join(f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats)
        # A file name may fill all 255 bytes that file systems allow; the prepared folder's name adds to it.
        return Corpus((path.resolve().stem or "root")[:40], key, partial(_read_files, path, files))
    if config.corpus == "python-docs":
        return Corpus(config.corpus, f"{config.corpus} {platform.python_version()}", _read_python_docs)
    remote = REMOTES[config.corpus]
    downloads = Path(config.cache_dir).expanduser() / "downloads"
    return Corpus(config.corpus, f"{config.corpus} {remote.sha256}", partial(_read_remote, remote, downloads))


def read_documents(file: Path) -> list[str]:
    """Return the documents of a UTF-8 text: the whole, or what stands between lines with only ``<|endoftext|>``.

    Raises
    ------
    UserError
        It is not UTF-8, empty or unreadable.
    """
    try:
        documents = list(_documents(file))
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text: convert it first, e.g. iconv -f latin1 -t utf-8") from error
    except OSError as error:
        raise UserError(f"cannot read {file} ({error.strerror}): name a UTF-8 text file") from error
    if not documents:
        raise UserError(f"{file} holds no text: name one that does")
    return documents


def _read_python_docs(progress: bool) -> Text:
    return Text(python_docs(progress), f"help topics and docstrings of Python {platform.python_version()}")


def _read_remote(remote: Remote, downloads: Path, progress: bool) -> Text:
    # The checksum is in the name: tinyshakespeare's own name is only "input.txt".
    file = downloads / f"{remote.sha256[:8]}-{remote.url.rpartition('/')[2]}"
    if not file.is_file():
        download(remote.url, file, remote.sha256, remote.n_bytes, progress)
    return Text(list(_documents(file)), remote.description)


def _read_files(path: Path, files: list[Path], progress: bool) -> Text:
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
    return Text(documents, description + (f", {skipped} skipped that are not UTF-8" if skipped else ""))


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
