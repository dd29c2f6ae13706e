"""Training a byte-level BPE and encoding with it: here, and by Hugging Face's tokenizers.

The text is the English of Python's own documentation, which is on every machine. Both start afresh in each turn: what
a tokenizer remembers of the pieces it has seen would make the second turn another task than the first.
"""

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from dist_llm.benchmarking.turn import Job, Warm, timed
from dist_llm.data.python_docs import python_docs
from dist_llm.text import train_tokenizer
from dist_llm.text.bpe import BPETokenizer

TEXT_CHARS = 1_000_000

Trained = TypeVar("Trained")
Encode = Callable[[str], object]


def make_python(job: Job, training: bool) -> Warm:
    """Read the text; a turn trains our tokenizer, or encodes with it."""
    size = job.config.vocab_size
    return _warm(
        job, training, lambda texts: train_tokenizer("bpe", texts, size).to_dict(),
        lambda trained: BPETokenizer.from_dict(trained).encode,
    )  # fmt: skip


def make_rust(job: Job, training: bool) -> Warm:
    """Read the text; a turn trains Hugging Face's tokenizer, or encodes with it."""
    os.environ["RAYON_NUM_THREADS"] = str(job.threads)
    import tokenizers
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    def train(documents: Sequence[str]) -> str:
        tokenizer = tokenizers.Tokenizer(BPE())
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
        trainer = BpeTrainer(
            vocab_size=job.config.vocab_size, min_frequency=2, initial_alphabet=ByteLevel.alphabet(),
            special_tokens=["<|endoftext|>"], show_progress=False,
        )  # fmt: skip
        tokenizer.train_from_iterator(documents, trainer)
        return str(tokenizer.to_str())

    def load(trained: str) -> Encode:
        tokenizer = tokenizers.Tokenizer.from_str(trained)
        return lambda document: tokenizer.encode(document).ids

    return _warm(job, training, train, load, f", tokenizers {tokenizers.__version__}")


def _warm(
    job: Job, training: bool, train: Callable[[Sequence[str]], Trained], load: Callable[[Trained], Encode], by: str = ""
) -> Warm:
    documents = text()
    trained = None if training else train(documents)

    def turn() -> None:
        if trained is None:
            train(documents)
        else:
            encode = load(trained)
            for document in documents:
                encode(document)

    amount = sum(len(document.encode()) for document in documents)
    return f"{job.config.vocab_size} tokens, {amount / 1e6:.1f} MB of text{by}", lambda: timed(turn, 1, amount)


def text() -> list[str]:
    """Return documents of TEXT_CHARS characters together, or a little more."""
    chosen, chars = [], 0
    for document in python_docs():
        if chars >= TEXT_CHARS:
            break
        chosen.append(document)
        chars += len(document)
    return chosen
