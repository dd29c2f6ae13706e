"""From tokens to the text that is shown: whole characters only, and nothing of a stop text."""

from collections.abc import Iterator, Sequence

import numpy as np

from dist_llm.inference.context import Context
from dist_llm.inference.generation import generate_batch
from dist_llm.inference.sampler import Sampler
from dist_llm.text import StreamDecoder, Tokenizer


class Writer:
    """Turns the tokens of a text into pieces of text, until its end.

    Parameters
    ----------
    tokenizer : Tokenizer
    stop : str, optional
        The text ends before the first place where this stands. What may be its beginning is held back until more
        tokens tell; so it may lie across many tokens, or begin in the middle of one. Empty: no such end.

    Attributes
    ----------
    ended : bool
        Whether the stop text or the end-of-text token has come.
    """

    def __init__(self, tokenizer: Tokenizer, stop: str = "") -> None:
        self._tokenizer, self._decoder = tokenizer, StreamDecoder(tokenizer)
        self._stop, self._held = stop, ""
        self.ended = False

    def push(self, token: int) -> str:
        """Take the next token, and return the text that can be shown now, perhaps none."""
        if self.ended:
            return ""
        if token == self._tokenizer.eot_id:
            text = self.flush()
            self.ended = True
            return text
        return self._pass(self._decoder.push(token))

    def flush(self) -> str:
        """Return what is held back, when no more tokens will come."""
        if self.ended:
            return ""
        text = self._pass(self._decoder.flush()) + self._held
        self._held = ""
        return text

    def _pass(self, text: str) -> str:
        text = self._held + text
        if self._stop and (place := text.find(self._stop)) >= 0:
            self.ended, self._held = True, ""
            return text[:place]
        longest = min(len(self._stop) - 1, len(text))
        held = next((n for n in range(longest, 0, -1) if text.endswith(self._stop[:n])), 0)
        shown = len(text) - held
        self._held = text[shown:]
        return text[:shown]


def write(
    context: Context,
    tokenizer: Tokenizer,
    max_tokens: int,
    sampler: Sampler,
    rngs: Sequence[np.random.Generator],
    stop: str = "",
) -> Iterator[list[str]]:
    """Let a model go on with each text of a context, until all have ended or `max_tokens`.

    Parameters
    ----------
    context, tokenizer, max_tokens, sampler, rngs
        As for `generate_batch`.
    stop : str
        As for `Writer`.

    Yields
    ------
    list of str
        For each token, the next piece of each text.
    """
    writers = [Writer(tokenizer, stop) for _ in rngs]
    for n, tokens in enumerate(generate_batch(context, tokenizer, max_tokens, sampler, rngs), start=1):
        pieces = [writer.push(int(token)) for writer, token in zip(writers, tokens, strict=True)]
        if n == max_tokens:
            pieces = [piece + writer.flush() for piece, writer in zip(pieces, writers, strict=True)]
        yield pieces
        if all(writer.ended for writer in writers):
            return
