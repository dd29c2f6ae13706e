"""Documents in a spool, and corpora that are read into one, for the tests of both."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dist_llm.data.documents import Part
from dist_llm.data.spool import Documents, Spool


def spooled(folder: Path, texts: Iterable[str], sources: Iterable[int] | None = None) -> Documents:
    """Write texts to a spool, each a document, and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = list(texts)
    with Spool(folder) as spool:
        for text, source in zip(texts, sources or [0] * len(texts), strict=True):
            spool.add(Part(text), source)
    return Documents(folder)


def texts_of(documents: Documents, slices: Iterable[tuple[int, int]]) -> list[str]:
    return [documents.read(start, stop) for start, stop in slices]


def all_texts(documents: Documents) -> list[str]:
    starts = documents.column("start")
    stops = starts + documents.column("n_bytes")
    return texts_of(documents, zip(starts.tolist(), stops.tolist(), strict=True))


class Text(NamedTuple):
    documents: list[str]
    description: str


def read_corpus(corpus, shown=False, say=lambda line: None) -> Text:
    with tempfile.TemporaryDirectory() as folder:
        with Spool(Path(folder)) as spool:
            description = corpus.read(spool, shown, say)
        with Documents(Path(folder)) as documents:
            return Text(all_texts(documents), description)


def write(path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path
