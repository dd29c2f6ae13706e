"""The generation loop: feed the model its own choices."""

from collections.abc import Iterator, Sequence

import numpy as np

from dist_llm.inference.context import Context
from dist_llm.inference.sampler import Sampler
from dist_llm.model.llama import Llama
from dist_llm.seeding import generator
from dist_llm.text import Tokenizer


def prompt_tokens(tokenizer: Tokenizer, prompt: str) -> np.ndarray:
    """Return the tokens of a prompt, int (n,); for an empty one, a token that a text can follow.

    Raises
    ------
    UserError
        The prompt has a character that the tokenizer does not know.
    """
    tokens = tokenizer.encode(prompt, allow_special=True)
    if tokenizer.begin_of_text is not None:
        return np.concatenate([[tokenizer.special[tokenizer.begin_of_text]], tokens]).astype(np.int32)
    if len(tokens):
        return tokens
    if tokenizer.eot_id is not None:
        return np.array([tokenizer.eot_id], np.int32)
    newline = [i for i, text in enumerate(tokenizer.token_bytes) if text == b"\n"]
    return np.array(newline or [0], np.int32)


def sample_generators(seed: int, samples: int) -> list[np.random.Generator]:
    """Return the random generator of each of several samples; the first does not depend on how many there are."""
    return [generator(seed, "generate", *([i] if i else [])) for i in range(samples)]


def generate(
    model: Llama,
    tokenizer: Tokenizer,
    prompt: np.ndarray,
    max_tokens: int,
    sampler: Sampler,
    rng: np.random.Generator,
) -> Iterator[int]:
    """Yield the tokens that follow a prompt, one by one, until `max_tokens` or the end-of-text token.

    Parameters
    ----------
    prompt : ndarray of int, shape (n,)
        Not empty.
    """
    context = Context(model)
    context.append(prompt)
    for tokens in generate_batch(context, tokenizer, max_tokens, sampler, [rng]):
        if tokens[0] == tokenizer.eot_id:
            return
        yield int(tokens[0])


def generate_batch(
    context: Context, tokenizer: Tokenizer, max_tokens: int, sampler: Sampler, rngs: Sequence[np.random.Generator]
) -> Iterator[np.ndarray]:
    """Yield the next token of each text, `max_tokens` times; whoever has seen enough just takes no more.

    Parameters
    ----------
    context : Context
        Of B texts, not empty; what is yielded has been added to it.
    rngs : sequence of numpy.random.Generator
        One per text, so that each of them draws the same beside others as alone.

    Yields
    ------
    ndarray of int, shape (B,)
    """
    for _ in range(max_tokens):
        # An embedding may have more rows than the tokenizer has words; those rows mean nothing.
        logits = context.logits()[:, : tokenizer.vocab_size]
        tokens = np.array([sampler.sample(row, rng) for row, rng in zip(logits, rngs, strict=True)])
        context.append(tokens[:, None])
        yield tokens
