"""Corpora: Python's own documentation, a download, or your own files, read document by document.

A document is what belongs together: a story, a file, a record, a module's docstrings. Documents matter twice. The split
holds whole ones out for validation, and the tokenizer's end-of-text token stands between them.
"""

import platform
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dist_llm.config import DataConfig
from dist_llm.data.documents import Part, read_documents
from dist_llm.data.download import REMOTES, Remote, download
from dist_llm.data.opening import OtherFormatError
from dist_llm.data.progress import Progress
from dist_llm.data.python_docs import python_docs
from dist_llm.data.sources import Source, find_sources
from dist_llm.data.spool import Spool
from dist_llm.errors import UserError

Say = Callable[[str], object]


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
        Takes a `Spool`, to which it adds the documents one by one, whether to show the progress on stderr, and what is
        to be told a line for a person. Returns a line that describes the text. Raises `UserError` if a file is not
        what its name says, empty or unreadable, or if a download fails.
    weights : tuple of float
        How often each text of a source is trained on in an epoch.
    """

    name: str
    key: str
    read: Callable[[Spool, bool, Say], str]
    weights: tuple[float, ...] = (1.0,)


def find_corpus(config: DataConfig) -> Corpus:
    """Return the corpus that a configuration names; ``path`` wins over ``corpus``.

    Raises
    ------
    UserError
        ``path`` names nothing readable.
    """
    if config.path is not None:
        return _find_files(find_sources(config.path), config.field)
    if config.corpus == "python-docs":
        return Corpus(config.corpus, f"{config.corpus} {platform.python_version()}", _read_python_docs)
    remote = REMOTES[config.corpus]
    downloads = Path(config.cache_dir).expanduser() / "downloads"
    return Corpus(config.corpus, f"{config.corpus} {remote.sha256}", partial(_read_remote, remote, downloads))


def _read_python_docs(spool: Spool, shown: bool, say: Say) -> str:
    for text in python_docs(shown):
        spool.add(Part(text))
    return f"help topics and docstrings of Python {platform.python_version()}"


def _read_remote(remote: Remote, downloads: Path, spool: Spool, shown: bool, say: Say) -> str:
    # The checksum is in the name: tinyshakespeare's own name is only "input.txt".
    file = downloads / f"{remote.sha256[:8]}-{remote.url.rpartition('/')[2]}"
    if not file.is_file():
        say(f"downloading {remote.url}: {remote.about}")
        download(remote.url, file, remote.sha256, remote.n_bytes, shown)
    with Progress("reading", file.stat().st_size, shown) as progress:
        for part in read_documents(file, "text", progress.add, remote.member, remote.heading):
            spool.add(part)
    return remote.description


def _find_files(sources: list[Source], field: str) -> Corpus:
    files = [source.files() for source in sources]
    lines = []
    for source, its_files in zip(sources, files, strict=True):
        # As long as there is one source, its key is that of a list of files.
        lines += [f"source of weight {source.weight}"] if len(sources) > 1 or source.weight != 1 else []
        stats = [(file.resolve(), file.stat()) for file in its_files]
        lines += [f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats]
    lines += [f"field {field}"] if field != "text" else []
    name = sources[0].name + (f"+{len(sources) - 1}" if len(sources) > 1 else "")
    weights = tuple(source.weight for source in sources)
    # A file name may fill all 255 bytes that file systems allow; the prepared folder's name adds to it.
    return Corpus(name[:40], "\n".join(lines), partial(_read_files, sources, files, field), weights)


def _read_files(sources: list[Source], files: list[list[Path]], field: str, spool: Spool, shown: bool, say: Say) -> str:
    total = sum(file.stat().st_size for its_files in files for file in its_files)
    descriptions = []
    with Progress("reading", total, shown) as progress:
        for number, source in enumerate(sources):
            before = spool.mark()
            skipped: Counter[str] = Counter()
            for file in files[number]:
                beginning = spool.mark()
                try:
                    for part in read_documents(file, field, progress.add):
                        spool.add(part, number)
                except OtherFormatError as error:
                    # In a folder a picture among the texts is no surprise; a file named on purpose must be text.
                    if source.is_file:
                        raise error.of(file) from error
                    spool.go_back(beginning)  # none of its documents is left behind
                    skipped[error.what] += 1
                except OSError as error:
                    if error.filename is None:  # the disk that is written to is another matter
                        raise
                    raise UserError(
                        f"cannot read {file} ({error.strerror}): make it readable or move it away"
                    ) from error
            detail = ", ".join(f"{n} files are {what}" for what, n in skipped.items())
            if spool.mark().n_documents == before.n_documents:
                raise UserError(
                    f"{source.path} holds no text{f' ({detail})' if detail else ''}: "
                    "name a UTF-8 file, or a folder of them, with --data.path"
                )
            n_read = len(files[number]) - skipped.total()
            description = str(source) if source.is_file else f"{source}, {n_read} files"
            told = ", ".join(f"{n} skipped that are {what}" for what, n in skipped.items())
            descriptions.append(description + (f", {told}" if told else ""))
            if told:
                say(f"{source.path}: {told}")
    return "; ".join(descriptions)
