"""The simplest tokenizer: a token is a byte of UTF-8. Nothing to train, nothing it cannot encode.

To Hugging Face it is a byte-level BPE without merges.
"""

from typing import Any, Self

import numpy as np

from dist_llm.text.byte_level import SYMBOLS, byte_level, byte_level_bpe
from dist_llm.text.tokenizer import END_OF_TEXT, Tokenizer


class ByteTokenizer(Tokenizer):
    """Ids 0 to 255 are the bytes, 256 is the end of a text."""

    kind = "byte"

    def __init__(self) -> None:
        super().__init__([bytes([i]) for i in range(256)] + [b""], {END_OF_TEXT: 256})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """There is only one byte tokenizer, and data adds nothing to it."""
        return cls()

    def _pre_tokenizer(self) -> dict[str, Any]:
        return byte_level(use_regex=False)

    def _decoder(self) -> dict[str, Any]:
        return byte_level()

    def _model(self) -> dict[str, Any]:
        return byte_level_bpe({symbol: byte for byte, symbol in enumerate(SYMBOLS)}, [])

    def _encode_ordinary(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8).astype(np.int32)
