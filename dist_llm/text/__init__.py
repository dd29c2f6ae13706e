"""Text to tokens and back: bytes, characters, or a byte-level BPE trained here, behind one interface.

Read `tokenizer.py` for what every tokenizer promises, then `byte.py`, `char.py` and `bpe.py`, each a little
more than the last; `bpe_training.py` finds the merges, and `registry.py` trains, saves and loads by name.
"""

from dist_llm.text.registry import (
    TOKENIZER,
    TOKENIZER_CONFIG,
    is_file,
    load_tokenizer,
    save_tokenizer,
    tokenizer_config,
    tokenizer_from_dict,
    train_tokenizer,
)
from dist_llm.text.tokenizer import END_OF_TEXT, StreamDecoder, Tokenizer, printable

__all__ = [
    "END_OF_TEXT",
    "TOKENIZER",
    "TOKENIZER_CONFIG",
    "StreamDecoder",
    "Tokenizer",
    "is_file",
    "load_tokenizer",
    "printable",
    "save_tokenizer",
    "tokenizer_config",
    "tokenizer_from_dict",
    "train_tokenizer",
]
