"""A run that learns until its validation loss is low enough: how many steps that takes with a batch of some size.

With strategies that keep the ranks in step, this depends on the batch and not on how many ranks share it: one run tells
it for all of them. What all batch sizes have in common is the number of tokens: of `train.max_steps` steps of
`train.batch_size` sequences. With a batch r times as large, steps are 1 / r of as many, those of the warm-up too, and

    lr(r B) = sqrt(r) lr(B)

which keeps the noise that updates add up to over the same tokens: derived for Adam by Malladi et al. (2022), On the
SDEs and Scaling Rules for Adaptive Gradient Algorithms, arXiv 2205.10287, who scale 1 - beta too. For Muon it is not
derived, but in use: its steps, like Adam's, have a length that does not depend on the gradient's.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

from dist_llm.config import Config
from dist_llm.data.loader import Loader
from dist_llm.fast.threads import use_threads
from dist_llm.inference.evaluation import evaluate
from dist_llm.model.micro_batch import micro_batch_size
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.training.broadcast_tokens import broadcast_tokens
from dist_llm.training.step import TrainStep

EVALUATIONS = 32  # in a whole run, at equal distances: 3 % of it from one to the next


@dataclass(frozen=True)
class LearningRun:
    """The evaluations of a run, before its first step and up to the one that is good enough, or to the end."""

    batch_size: int
    point: str  # where it ran
    lr: float
    max_steps: int  # that it had
    steps: list[int]  # after which it was evaluated
    val_losses: list[float]  # nats per token
    seconds: list[float]  # since its beginning, evaluations included


def with_batch_size(config: Config, batch_size: int) -> Config:
    """Return the configuration that learns from as many tokens in batches of another size."""
    train, optim = config.train, config.optim
    ratio = batch_size / train.batch_size
    steps = {"batch_size": batch_size, "max_steps": max(1, round(train.max_steps / ratio))}
    rates = {name: math.sqrt(ratio) * getattr(optim, name) for name in ("lr", "min_lr")}
    # What is counted in steps and spans the same tokens.
    spans = {"warmup_steps": round(optim.warmup_steps / ratio), "average": optim.average**ratio}
    return config.replace({"train": steps, "optim": rates | spans})


def learn(comm: Comm, config: Config, to_loss: float) -> LearningRun:
    """Train from the beginning until an evaluation finds this loss or less, or until ``max_steps``; collective.

    Evaluations are those of a training run: of ``eval_tokens``, by the averaged weights if there are any. Rank 0 has
    the ``data.shards``.
    """
    train, placement = config.train, place(comm, config.parallel.threads)
    data, _ = broadcast_tokens(Path(str(config.data.shards)), comm)
    use_threads(placement.threads)
    step = TrainStep(config, Loader.of(data.train, config), comm)
    interval, start_s = math.ceil(train.max_steps / EVALUATIONS), time.perf_counter()
    run = LearningRun(
        train.batch_size, f"{comm.size}x{placement.threads}", config.optim.lr, train.max_steps, [], [], []
    )
    while True:
        with step.averaged():
            found = evaluate(step.model, data.val, data.tokenizer, comm, micro_batch_size(config), train.eval_tokens)
        run.steps.append(step.step)
        run.val_losses.append(found.loss)
        run.seconds.append(time.perf_counter() - start_s)
        if found.loss <= to_loss or step.step == train.max_steps:
            break
        for _ in range(min(interval, train.max_steps - step.step)):
            step()
    step.close()
    return run
