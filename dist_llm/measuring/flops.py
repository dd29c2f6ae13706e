"""How many floating-point operations the training of a token takes, counted in the mathematics, not in the code.

    FLOPs per token = 6 x (parameters that multiply) + 6 x n_layers x dim x (T + 1)

A weight takes part in one product in the forward pass, a multiplication and an addition; the backward pass needs two
such products, for the gradients of its input and of the weight: 6 operations in all. The gains of the norms are left
out. A tied embedding multiplies once, as the output projection; an untied one is only looked up.

Causal attention: position t = 1, ..., T looks at t keys, (T + 1) / 2 on average. Scores and weighted values are two
products of dim x keys, of 2 operations each: 2 (T + 1) dim per layer, and three times that with the backward pass.
What the code computes beyond that, such as masked scores or a forward pass done again, does not count (Chowdhery et
al. 2022, arXiv 2204.02311, appendix B).
"""

from collections.abc import Iterable

from dist_llm.config import ModelConfig
from dist_llm.measuring.peak import Peak
from dist_llm.measuring.spread import Spread
from dist_llm.model.llama import count_parameters

FORMULA = "6 x (parameters that multiply) + 6 x n_layers x dim x (T + 1)"
# A peak is what the machine can do: a disturbed moment flatters nobody.
MFU = "tokens/s x FLOPs per token / float32 peak of the cores used, the best of all rounds"


def multiplying_parameters(config: ModelConfig, vocab_size: int) -> int:
    """Return the number of weights that a token is multiplied with."""
    gains = (2 * config.n_layers + 1) * config.dim
    looked_up = 0 if config.tie_embeddings else vocab_size * config.dim
    return count_parameters(config, vocab_size) - gains - looked_up


def flops_per_token(config: ModelConfig, vocab_size: int) -> int:
    """Return the operations of forward and backward pass, per token of a sequence of ``max_seq_len``."""
    attention = 6 * config.n_layers * config.dim * (config.max_seq_len + 1)
    return 6 * multiplying_parameters(config, vocab_size) + attention


def mfu(speeds: Iterable[float], flops: int, peak: Peak, cores_used: int) -> Spread:
    """Return the model FLOPs utilisation of speeds in tokens/s, at so many FLOPs per token."""
    return Spread.of(flops * speed / (1e9 * peak.gflops(cores_used)) for speed in speeds)
