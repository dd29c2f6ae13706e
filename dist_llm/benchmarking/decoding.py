"""Generation with a KV cache, a token at a time and always the likeliest: here and in PyTorch.

Both have room for the whole context from the beginning, and fill it from the same first token in every turn.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from dist_llm.benchmarking.turn import Job, Warm, initial_model, timed
from dist_llm.fast.selection import model_class
from dist_llm.inference.kv_cache import new_kv_cache
from dist_llm.model.llama import Llama
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.comm import SerialComm
from dist_llm.parallel.placement import place

FIRST_TOKEN = 1

Decode = Callable[[int, int], Any]  # a token and its position -> the logits (V,) of the one that follows


def make_numpy(job: Job) -> Warm:
    """Build our model, which fills a context in each turn."""
    keep_freed_memory()
    placement, model = place(SerialComm(), job.threads), initial_model(job.config)
    return _warm(job, lambda: our_decoder(model), str(placement.blas))


def make_compiled(job: Job) -> Warm:
    """Build our model with its compiled decoding, which does the same."""
    keep_freed_memory()
    place(SerialComm(), job.threads)
    model = initial_model(job.config, model_class(compiled=True))
    return _warm(job, lambda: our_decoder(model), "compiled by numba")


def make_torch(job: Job) -> Warm:
    """Build the baseline, which does the same."""
    import torch

    keep_freed_memory()
    torch.set_num_threads(job.threads)
    return _warm(job, torch_decoders(initial_model(job.config)), f"torch {torch.__version__}")


def _warm(job: Job, new_decoder: Callable[[], Decode], by: str) -> Warm:
    length = job.config.model.max_seq_len

    def turn() -> list[int]:
        return fill(new_decoder(), length)

    turn()
    return f"{length - 1} tokens, {by}", lambda: timed(turn, 1, length - 1)


def fill(decode: Decode, length: int) -> list[int]:
    """Generate a whole context, and return its tokens."""
    tokens = [FIRST_TOKEN]
    for position in range(length - 1):
        tokens.append(int(decode(tokens[-1], position).argmax()))
    return tokens


def our_decoder(model: Llama) -> Decode:
    """Return our model with an empty cache."""
    cache = new_kv_cache(model)
    return lambda token, position: model.decode(np.array([[token]]), position, cache)[0]


def torch_decoders(model: Llama) -> Callable[[], Decode]:
    """Return what gives the baseline, with our weights, with an empty cache."""
    import torch

    from dist_llm.baselines.torch_decoder import TorchDecoder
    from dist_llm.baselines.torch_llama import TorchLlama

    baseline = TorchLlama(model.config, model.vocab_size)
    baseline.load_state_dict({name: torch.from_numpy(w) for name, w in model.params.state_dict().items()})
    return lambda: TorchDecoder(baseline, model.freqs_cis).decode
