"""Learning rate as a function of the step: linear warm-up, then cosine, warm-up-stable-decay, or constant."""

import math

from dist_llm.config import OptimConfig


def learning_rate(step: int, max_steps: int, config: OptimConfig) -> float:
    """Return the learning rate of a step.

    Parameters
    ----------
    step : int
        From 0 to ``max_steps - 1``.
    max_steps : int
        Step at which the decay ends.

    Notes
    -----
    ``cosine`` falls from lr to min_lr along half a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983). ``wsd`` stays
    at lr and falls linearly over the last ``decay_fraction`` of the run (Hu et al. 2024, arXiv 2404.06395), so that a
    run can be prolonged from any checkpoint of its plateau.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    decay_start = config.warmup_steps
    if config.schedule == "wsd":
        decay_start = max(decay_start, max_steps - round(config.decay_fraction * max_steps))
    # The last step is the first to use min_lr in full.
    progress = min(1.0, max(0, step - decay_start + 1) / max(1, max_steps - decay_start))
    remaining = 1 - progress if config.schedule == "wsd" else 0.5 * (1 + math.cos(math.pi * progress))
    return config.min_lr + (config.lr - config.min_lr) * remaining
