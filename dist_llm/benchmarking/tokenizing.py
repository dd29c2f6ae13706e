"""Training a byte-level BPE and encoding with it: here, and by Hugging Face's tokenizers.

The text is the English of Python's own documentation, which is on every machine. Both start afresh in each turn: what
a tokenizer remembers of the pieces it has seen would make the second turn another task than the first.
"""

import os
from collections.abc import Callable
from typing import Any

from dist_llm.benchmarking.contestants import Contestant
from dist_llm.benchmarking.numpy_worker import timed
from dist_llm.config import Config
from dist_llm.data.python_docs import python_docs
from dist_llm.text import train_tokenizer
from dist_llm.text.bpe import BPETokenizer

TEXT_CHARS = 1_000_000


def prepare(contestant: Contestant, config: Config) -> tuple[str, Callable[[], dict[str, Any]]]:
    """Read the text; return how it works, and the function that does the task once and returns the seconds."""
    documents = text()
    amount = sum(len(document.encode()) for document in documents)
    vocab_size = config.model.vocab_size
    assert vocab_size is not None
    training = contestant.task == "bpe-training"
    task: Callable[[], object]
    if contestant.kind == "numpy":
        task = _numpy(documents, vocab_size, training)
        version = ""
    else:
        os.environ["RAYON_NUM_THREADS"] = str(contestant.threads)
        import tokenizers

        task = _hugging_face(documents, vocab_size, training)
        version = f", tokenizers {tokenizers.__version__}"
    return f"{vocab_size} tokens, {amount / 1e6:.1f} MB of text{version}", lambda: timed(task, 1, amount)


def text() -> list[str]:
    """Return documents of TEXT_CHARS characters together, or a little more."""
    chosen, chars = [], 0
    for document in python_docs():
        if chars >= TEXT_CHARS:
            break
        chosen.append(document)
        chars += len(document)
    return chosen


def _numpy(documents: list[str], vocab_size: int, training: bool) -> Callable[[], object]:
    if training:
        return lambda: train_tokenizer("bpe", documents, vocab_size)
    trained = train_tokenizer("bpe", documents, vocab_size).to_dict()

    def encode() -> None:
        tokenizer = BPETokenizer.from_dict(trained)
        for document in documents:
            tokenizer.encode(document)

    return encode


def _hugging_face(documents: list[str], vocab_size: int, training: bool) -> Callable[[], object]:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    def train() -> Tokenizer:
        tokenizer = Tokenizer(BPE())
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
        trainer = BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            initial_alphabet=ByteLevel.alphabet(),
            special_tokens=["<|endoftext|>"],
            show_progress=False,
        )
        tokenizer.train_from_iterator(documents, trainer)
        return tokenizer

    if training:
        return train
    trained = train().to_str()

    def encode() -> None:
        tokenizer = Tokenizer.from_str(trained)
        for document in documents:
            assert tokenizer.encode(document).ids

    return encode
