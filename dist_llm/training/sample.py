"""What the model writes at each evaluation, for people to see it learn; and a prompt for them to try themselves."""

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dist_llm.atomic import write_text
from dist_llm.config import Config
from dist_llm.data.loader import CountedTokens, Tokens
from dist_llm.errors import UserError
from dist_llm.inference.generation import generate, prompt_tokens
from dist_llm.inference.sampler import Sampler
from dist_llm.model.llama import Llama
from dist_llm.seeding import generator
from dist_llm.text import Tokenizer, printable

PROMPT_TOKENS = 12
LONGEST_PROMPT = 200
ENGLISH = "The "


def write_sample(
    config: Config,
    model: Llama,
    tokenizer: Tokenizer,
    val_tokens: Tokens,
    step: int,
    run_dir: Path,
    stopped: Callable[[], bool] = lambda: False,
) -> str:
    """Let the model write, keep what it wrote in the run folder, and return it; nothing if no sample is wanted.

    If it is stopped, it ends with the word it is writing.
    """
    log = config.log
    if not log.sample_tokens:
        return ""
    middle = len(val_tokens) // 2
    prompt = _first_prompt(val_tokens)
    if not len(prompt):
        prompt = val_tokens.read(middle, min(PROMPT_TOKENS, len(val_tokens) - middle))
    if log.sample_prompt is not None:
        prompt = prompt_tokens(tokenizer, log.sample_prompt)
    rng = generator(config.train.seed, "sample", step)
    written = generate(model, tokenizer, prompt, log.sample_tokens, Sampler(temperature=0.8, top_p=0.95), rng)
    tokens = itertools.takewhile(lambda _: not stopped(), written)
    # A young model may write bytes that are no text, even half a surrogate pair, which no file or terminal takes.
    text = tokenizer.decode([*prompt, *tokens]).encode(errors="replace").decode()
    folder = run_dir / "samples"
    with contextlib.suppress(OSError):  # it is shown too; what is wrong with the disk, the metrics tell
        folder.mkdir(exist_ok=True)
        write_text(folder / f"step-{step:08d}.txt", text)
    return text


def known_prompt(tokenizer: Tokenizer, val_tokens: Tokens) -> str:
    """Return a short prompt for a model of this text: ``The``, or where that is foreign to it, the text's first words.

    It is empty where the text begins with nothing that can be typed. Of pairs, it is the first one's prompt.
    """
    prompt = tokenizer.decode(_first_prompt(val_tokens))
    if prompt and printable(prompt) == prompt and not prompt.startswith("-"):
        return prompt
    beginning = tokenizer.decode(val_tokens.read(0, min(64, len(val_tokens))))
    if tokenizer.end_of_text is not None:
        beginning = beginning.replace(tokenizer.end_of_text, "\n")
    if beginning.isascii() and _knows(tokenizer, ENGLISH):
        return ENGLISH
    # The last token may be the beginning of a character, which is shown as U+FFFD. A dash would look like an option.
    lines = [line.partition("\ufffd")[0].lstrip("- ") for line in beginning.splitlines()]
    line = next((line for line in lines if line.strip() and line.isprintable()), "")
    words = (
        line if len(line) <= 16 else line[:16].rpartition(" ")[0] or line[:16]
    )  # whole ones, where spaces divide them
    return words if _knows(tokenizer, words) else ""


def _first_prompt(tokens: Tokens) -> np.ndarray:
    """Return the first tokens that do not count, where only those of completions do; otherwise none."""
    if not isinstance(tokens, CountedTokens):
        return np.empty(0, np.int32)
    longest = min(LONGEST_PROMPT, len(tokens))
    return tokens.read(0, int(np.append(tokens.counted.read(0, longest), 1).argmax()))


def _knows(tokenizer: Tokenizer, text: str) -> bool:
    try:
        tokenizer.encode(text)
    except UserError:
        return False
    return True
