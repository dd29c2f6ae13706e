"""A conversation: turns of a user and a model, which is one text that grows."""

from collections.abc import Iterator

import numpy as np

from dist_llm.inference.context import Context
from dist_llm.inference.generation import prompt_tokens, sample_generators
from dist_llm.inference.language_model import LanguageModel
from dist_llm.inference.sampler import Sampler
from dist_llm.inference.writing import write


class Conversation:
    """Turns that share a context, so that each costs only its own tokens.

    What the model wrote stays in the context as it wrote it: also the end-of-text token, behind which the next turn
    begins as documents do in training, and a stop text, which is not shown.

    Parameters
    ----------
    language_model : LanguageModel
    max_tokens : int
        The most of a reply.
    sampler : Sampler
    seed : int
    stop : str
        As for `Writer`.
    """

    def __init__(
        self, language_model: LanguageModel, max_tokens: int, sampler: Sampler, seed: int = 1, stop: str = ""
    ) -> None:
        self._tokenizer = language_model.tokenizer
        self._max_tokens, self._sampler, self._stop = max_tokens, sampler, stop
        self._rngs = sample_generators(seed, 1)
        self.context = Context(language_model.model)

    def reply(self, text: str) -> Iterator[str]:
        """Read what the user says, and yield the pieces of what the model says; to nothing at all, it just goes on.

        Raises
        ------
        UserError
            The text has a character that the tokenizer does not know; it then has not been said.
        """
        self.context.append(self._tokens(text))
        pieces = write(self.context, self._tokenizer, self._max_tokens, self._sampler, self._rngs, self._stop)
        return (piece for (piece,) in pieces)

    def _tokens(self, text: str) -> np.ndarray:
        if not len(self.context):
            return prompt_tokens(self._tokenizer, text)
        return self._tokenizer.encode(text, allow_special=True)
