"""The tokenizer of a preparation: an existing one, or one that is trained on the text."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from dist_llm.config import DataConfig
from dist_llm.data.progress import Progress
from dist_llm.data.split import Slices, shuffled
from dist_llm.data.spool import Documents
from dist_llm.data.workers import Workers
from dist_llm.errors import UserError
from dist_llm.text import Tokenizer, is_file, load_tokenizer, save_tokenizer, train_tokenizer
from dist_llm.text.bpe_training import TRAINING_CHARS

READ_BYTES = 1 << 22  # of a long document at once


def find_tokenizer(
    folder: Path,
    splits: Mapping[str, Slices],
    n_sources: int,
    documents: Documents,
    config: DataConfig,
    workers: Workers,
    shown: bool,
) -> Tokenizer:
    """Return the tokenizer that a configuration names, and write it to a folder unless it is there.

    Parameters
    ----------
    folder : Path
        May have it already, from a preparation that was interrupted.
    splits : mapping of str to Slices
        The training and the validation texts.
    n_sources : int
        The sources that they come from.
    documents : Documents
        What the texts are slices of.
    config : DataConfig
    workers : Workers
    shown : bool
        Show the progress on stderr.
    """
    named = is_file(config.tokenizer)
    try:
        tokenizer = load_tokenizer(config.tokenizer if named else folder)
    except UserError:
        if named:
            raise
        # Merges are learned from the training text alone, as the weights are. An alphabet must hold the
        # characters of both, since it cannot write a missing one; it does not tell the model how they are used.
        known = list(splits.values()) if config.tokenizer == "char" else [splits["train"]]
        if config.tokenizer == "bpe" and n_sources > 1:  # of a long text the first source alone would be learned from
            known = [shuffled(texts, documents) for texts in known]
        total = sum(int((texts.stops - texts.starts).sum()) for texts in known)
        if config.tokenizer == "bpe":
            total = min(total, TRAINING_CHARS)  # in English a character is a byte
        with Progress("training the tokenizer", total, shown) as progress:
            texts = _read(known, documents, progress)
            tokenizer = train_tokenizer(config.tokenizer, texts, config.vocab_size, workers.map, config.pattern)
    save_tokenizer(tokenizer, folder)
    return tokenizer


def _read(known: Iterable[Slices], documents: Documents, progress: Progress) -> Iterator[str]:
    for slices in known:
        for start, stop in slices:
            for left, right in documents.cut(start, stop, READ_BYTES):
                yield documents.read(left, right)
                progress.add(right - left)
