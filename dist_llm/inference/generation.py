"""The generation loop: feed the model its own choices."""

from collections.abc import Iterator

import numpy as np

from dist_llm.inference.kv_cache import new_kv_cache
from dist_llm.inference.sampler import Sampler
from dist_llm.model.llama import Llama
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

    Notes
    -----
    When the context is full, the older half is forgotten and the newer half computed afresh, at new positions.
    """
    max_seq_len = model.config.max_seq_len
    context = [int(token) for token in prompt[-max_seq_len:]]
    cache, cached = new_kv_cache(model), 0
    for _ in range(max_tokens):
        if len(context) > max_seq_len:
            context = context[-max(1, max_seq_len // 2) :]
            cache, cached = new_kv_cache(model), 0
        logits = model.decode(np.array([context[cached:]]), cached, cache)[0]  # (V,)
        cached = len(context)
        # An embedding may have more rows than the tokenizer has words; those rows mean nothing.
        token = sampler.sample(logits[: tokenizer.vocab_size], rng)
        if token == tokenizer.eot_id:
            return
        yield token
        context.append(token)
