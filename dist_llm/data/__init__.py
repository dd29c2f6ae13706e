"""From text to batches: corpora, the split, token shards on disk, and the loader that reads them.

    Corpus --Spool, split--> train, val --tokenizer--> shards on disk --Loader--> (B, T) tokens and targets

`prepare` walks the first arrows once and leaves a folder; `open_data` opens it; `Loader` draws batches.
Only the arithmetic of ranks is here (which sequences are mine), never a message between them.
"""

from dist_llm.data.corpora import Corpus, find_corpus
from dist_llm.data.loader import Loader, validation_windows
from dist_llm.data.preparation import Data, open_data, prepare
from dist_llm.data.shards import TokenShards
from dist_llm.data.sources import full_path

__all__ = [
    "Corpus",
    "Data",
    "Loader",
    "TokenShards",
    "find_corpus",
    "full_path",
    "open_data",
    "prepare",
    "validation_windows",
]
