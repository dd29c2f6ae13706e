"""What a person sees of a generation: text on stdout as it comes, remarks on stderr."""

import sys
import time

from dist_llm.errors import UserError
from dist_llm.inference.context import Context
from dist_llm.inference.conversation import Conversation
from dist_llm.inference.generation import sample_generators
from dist_llm.inference.language_model import LanguageModel
from dist_llm.inference.sampler import Sampler
from dist_llm.inference.writing import write
from dist_llm.text import printable


class SlideNotice:
    """Says, once, that the context of a generation has slid."""

    def __init__(self, context: Context) -> None:
        self._context, self._told = context, False

    def check(self) -> None:
        """Say it if it has happened and was not said."""
        if self._context.forgotten and not self._told:
            self._told = True
            length = self._context.model.config.max_seq_len
            remark(f"[the context of {length} tokens is full: from here on the oldest are forgotten]")


def print_samples(
    language_model: LanguageModel, prompt: str, samples: int, max_tokens: int, sampler: Sampler, seed: int, stop: str
) -> None:
    """Print a prompt and its continuation as it comes; several of them one below the other, each under a heading."""
    context, tokenizer = language_model.read(prompt, samples), language_model.tokenizer
    notice, count, start = SlideNotice(context), 0, time.perf_counter()
    texts = [prompt] * samples
    if samples == 1:
        show(prompt)
    for pieces in write(context, tokenizer, max_tokens, sampler, sample_generators(seed, samples), stop):
        count += samples
        notice.check()
        if samples == 1:
            show(pieces[0])
        else:
            texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
    seconds = time.perf_counter() - start
    if samples == 1:
        show("\n")
    else:
        for i, text in enumerate(texts, start=1):
            show(f"--- sample {i} of {samples} ---\n{text}\n")
    remark(f"[{count} tokens, {count / seconds:.0f} tokens/s]")


def converse(conversation: Conversation) -> None:
    """Ask for a line, print the reply, and so on, until Ctrl-D or Ctrl-C."""
    watched = sys.stdin.isatty()
    if watched:
        remark("[each line is added to the text, and the model goes on; Ctrl-D ends]")
    notice = SlideNotice(conversation.context)
    try:
        while True:
            try:
                for piece in conversation.reply(input("> " if watched else "")):
                    notice.check()
                    show(piece)
                show("\n")
            except (UserError, UnicodeDecodeError) as error:  # the next line may be better
                remark(f"error: {error}")
    except (EOFError, KeyboardInterrupt):
        show("\n" if watched else "")


def show(text: str) -> None:
    """Print text at once; on a terminal without what could move its cursor, in a file just as the model wrote it."""
    print(printable(text) if sys.stdout.isatty() else text, end="", flush=True)


def remark(text: str) -> None:
    """Print a line that is not part of the text."""
    print(text, file=sys.stderr, flush=True)
