"""A trained model with its tokenizer: text in, text and numbers out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dist_llm.config import Config
from dist_llm.data.loader import Tokens, TokensInMemory
from dist_llm.errors import UserError
from dist_llm.inference.context import Context
from dist_llm.inference.evaluation import Evaluation, Sums, Watcher, evaluate_texts
from dist_llm.inference.generation import generate, prompt_tokens, sample_generators
from dist_llm.inference.sampler import Sampler
from dist_llm.inference.writing import write
from dist_llm.model.llama import Llama
from dist_llm.model.micro_batch import micro_batch_size
from dist_llm.parallel.comm import Comm, SerialComm
from dist_llm.text import Tokenizer


@dataclass(repr=False)
class LanguageModel:
    """A trained model and its tokenizer; `dist_llm.load` returns one.

    Attributes
    ----------
    model : Llama
    tokenizer : Tokenizer
    config : Config
        Configuration it was trained with.
    state : dict, optional
        State of its checkpoint: ``step``, ``val_loss``, ...
    """

    model: Llama
    tokenizer: Tokenizer
    config: Config
    state: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Say what model it is, and after how many steps."""
        after = f", after step {self.state['step']}" if "step" in self.state else ""
        return f"LanguageModel({self.model!r}, {self.tokenizer.kind} tokens{after})"

    def logits(self, text: str) -> np.ndarray:
        """Return the logits of the token that follows each token of a text, float32 (n, V).

        Raises
        ------
        UserError
            The text has more tokens than the context, or a character that the tokenizer does not know.
        """
        tokens = prompt_tokens(self.tokenizer, text)
        if len(tokens) > self.model.config.max_seq_len:
            raise UserError(f"the text has {len(tokens)} tokens, and the context {self.model.config.max_seq_len}")
        return self.model.logits(tokens[None])[0, :, : self.tokenizer.vocab_size]

    def sample(self, prompt: str, max_tokens: int, sampler: Sampler, seed: int = 1) -> Iterator[int]:
        """Yield the tokens that continue a prompt, until `max_tokens` or the end of the text."""
        tokens = prompt_tokens(self.tokenizer, prompt)
        return generate(self.model, self.tokenizer, tokens, max_tokens, sampler, sample_generators(seed, 1)[0])

    def read(self, prompt: str, samples: int = 1) -> Context:
        """Return a context that holds a prompt, once for each sample."""
        context = Context(self.model, samples)
        context.append(prompt_tokens(self.tokenizer, prompt))
        return context

    def generate(
        self,
        prompt: str = "",
        max_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 0.95,
        seed: int = 1,
        stop: str = "",
    ) -> str:
        """Return a prompt and its continuation; the other parameters are those of `Sampler` and of `Writer`."""
        sampler, rngs = Sampler(temperature, top_k, top_p), sample_generators(seed, 1)
        pieces = write(self.read(prompt), self.tokenizer, max_tokens, sampler, rngs, stop)
        return prompt + "".join(piece for (piece,) in pieces)

    def score(self, text: str) -> Evaluation:
        """Return how well the model predicts a text: all tokens, or without an end-of-text token, all but the first.

        Raises
        ------
        UserError
            There is nothing to predict, or a character that the tokenizer does not know.
        """
        return self.score_texts([text], SerialComm())[0].evaluation()

    def score_texts(self, texts: Sequence[str], comm: Comm, watcher: Watcher | None = None) -> list[Sums]:
        """Do with each of several texts as `score` does with one, the ranks sharing the work; a collective call.

        Parameters
        ----------
        watcher : Watcher, optional
            Is told how far that is.

        Raises
        ------
        UserError
            As `score`.
        """
        tokens = comm.on_every_rank(lambda: self._scored_texts(texts))
        enough = [text for text in tokens if len(text) > 1]
        batch_size = micro_batch_size(self.config.with_vocabulary(self.model.vocab_size))
        found = iter(evaluate_texts(self.model, enough, self.tokenizer, comm, batch_size, watcher=watcher))
        return [next(found) if len(text) > 1 else Sums(0.0, 0, 0) for text in tokens]

    def scored_tokens(self, text: str) -> np.ndarray:
        """Return the tokens of a text, behind one that texts begin after, where there is such a token: int32 (n,).

        Raises
        ------
        UserError
            A character that the tokenizer does not know.
        """
        return np.concatenate([self._before, self.tokenizer.encode(text)])

    @property
    def _before(self) -> np.ndarray:
        before = self.tokenizer.begin_of_text or self.tokenizer.end_of_text
        return np.array([] if before is None else [self.tokenizer.special[before]], np.int32)

    def _scored_texts(self, texts: Sequence[str]) -> list[Tokens]:
        tokens = [self.scored_tokens(text) for text in texts]
        if all(len(ids) < 2 for ids in tokens):
            raise UserError("the text has nothing to predict: give it more than a character")
        n = len(self._before)
        return [TokensInMemory(ids, "text", len(self.tokenizer.decode_bytes(ids[n:]))) for ids in tokens]
