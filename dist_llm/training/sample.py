"""What the model writes at each evaluation, for people to see it learn."""

from pathlib import Path

from dist_llm.atomic import write_text
from dist_llm.config import Config
from dist_llm.data.loader import Tokens
from dist_llm.inference.generation import generate, prompt_tokens
from dist_llm.inference.sampler import Sampler
from dist_llm.model.llama import Llama
from dist_llm.seeding import generator
from dist_llm.text import Tokenizer

PROMPT_TOKENS = 12


def write_sample(
    config: Config, model: Llama, tokenizer: Tokenizer, val_tokens: Tokens, step: int, run_dir: Path
) -> str:
    """Let the model write, keep what it wrote in the run folder, and return it; nothing if no sample is wanted."""
    log = config.log
    if not log.sample_tokens:
        return ""
    middle = len(val_tokens) // 2
    prompt = val_tokens.read(middle, min(PROMPT_TOKENS, len(val_tokens) - middle))
    if log.sample_prompt is not None:
        prompt = prompt_tokens(tokenizer, log.sample_prompt)
    rng = generator(config.train.seed, "sample", step)
    tokens = generate(model, tokenizer, prompt, log.sample_tokens, Sampler(temperature=0.8, top_p=0.95), rng)
    # A young model may write bytes that are no text, even half a surrogate pair, which no file or terminal takes.
    text = tokenizer.decode([*prompt, *tokens]).encode(errors="replace").decode()
    folder = run_dir / "samples"
    folder.mkdir(exist_ok=True)
    write_text(folder / f"step-{step:08d}.txt", text)
    return text
