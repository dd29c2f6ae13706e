"""Training a byte-level BPE and encoding with it: here, and by Hugging Face's tokenizers.

The text is the English of Python's own documentation, which is on every machine. Both start afresh in each turn: what
a tokenizer remembers of the pieces it has seen would make the second turn another task than the first.
"""

import os
from collections.abc import Callable

from dist_llm.benchmarking.turn import Job, Warm, timed, vocabulary
from dist_llm.data.python_docs import python_docs
from dist_llm.text import train_tokenizer
from dist_llm.text.bpe import BPETokenizer

TEXT_CHARS = 1_000_000


def make_python(job: Job, training: bool) -> Warm:
    """Read the text; a turn trains our tokenizer, or encodes with it."""
    documents, vocab_size = text(), vocabulary(job.config)
    if training:
        return _warm(documents, vocab_size, lambda: train_tokenizer("bpe", documents, vocab_size))
    trained = train_tokenizer("bpe", documents, vocab_size).to_dict()

    def encode() -> None:
        tokenizer = BPETokenizer.from_dict(trained)
        for document in documents:
            tokenizer.encode(document)

    return _warm(documents, vocab_size, encode)


def make_rust(job: Job, training: bool) -> Warm:
    """Read the text; a turn trains Hugging Face's tokenizer, or encodes with it."""
    os.environ["RAYON_NUM_THREADS"] = str(job.threads)
    import tokenizers
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    documents, vocab_size = text(), vocabulary(job.config)

    def train() -> tokenizers.Tokenizer:
        tokenizer = tokenizers.Tokenizer(BPE())
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

    version = f", tokenizers {tokenizers.__version__}"
    if training:
        return _warm(documents, vocab_size, train, version)
    trained = train().to_str()

    def encode() -> None:
        tokenizer = tokenizers.Tokenizer.from_str(trained)
        for document in documents:
            assert tokenizer.encode(document).ids

    return _warm(documents, vocab_size, encode, version)


def text() -> list[str]:
    """Return documents of TEXT_CHARS characters together, or a little more."""
    chosen, chars = [], 0
    for document in python_docs():
        if chars >= TEXT_CHARS:
            break
        chosen.append(document)
        chars += len(document)
    return chosen


def _warm(documents: list[str], vocab_size: int, task: Callable[[], object], version: str = "") -> Warm:
    amount = sum(len(document.encode()) for document in documents)
    return f"{vocab_size} tokens, {amount / 1e6:.1f} MB of text{version}", lambda: timed(task, 1, amount)
