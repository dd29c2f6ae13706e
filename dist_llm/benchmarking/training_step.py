"""A training step that can be taken alone and measured: the trainer's own, so that what is measured is what trains."""

import os
from pathlib import Path
from typing import Any

from dist_llm.benchmarking.phases import Phases
from dist_llm.config import Config
from dist_llm.data.loader import Loader
from dist_llm.model.llama import Llama
from dist_llm.optim.adamw import AdamW
from dist_llm.parallel.choice import choose_reduction
from dist_llm.parallel.comm import Comm
from dist_llm.seeding import generator
from dist_llm.training.trainer import Trainer


class TrainingStep:
    """Model, optimizer and trainer of one rank, with clocks; nothing of it needs a run folder.

    Parameters
    ----------
    config : Config
        With a ``model.vocab_size``.
    comm : Comm
    loader : Loader
        Of the batches.

    Attributes
    ----------
    reduction : Reduction
    phases : Phases
    exposed_s, bytes_sent : float
        Of the reduction, over the steps since the last `reset`.
    """

    def __init__(self, config: Config, comm: Comm, loader: Loader) -> None:
        # Nothing but steps, for as long as anyone likes: no evaluation, checkpoint or comparison of replicas is due,
        # none of which would be made here, but each of which ends a round of local steps.
        config = config.replace(
            {
                "train": {"max_steps": 1 << 30, "eval_interval": 0, "checkpoint_interval": 0},
                "parallel": {"check_interval": 0},
            }
        )
        assert config.model.vocab_size is not None
        model = Llama(config.model, config.model.vocab_size)
        self.reduction = choose_reduction(comm, model.params.data, model.params.grad, config.parallel)
        optimizer = AdamW(model.params, config.optim, self.reduction.part)
        if comm.rank == 0:
            model.params.initialize(generator(config.train.seed, "weights"))
        none: Any = None
        nowhere = Path(os.devnull)
        self._trainer = Trainer(config, comm, model, optimizer, self.reduction, none, loader, none, nowhere, nowhere)
        self.phases = Phases(model, optimizer, loader, self.reduction)
        self.exposed_s = self.bytes_sent = 0.0

    def take(self) -> float:
        """Take one step; return the loss of its batch, in nats per token, before the update."""
        record, _ = self._trainer.train_step()
        self.exposed_s += self.reduction.exposed_s
        self.bytes_sent += self.reduction.bytes_sent
        return record["loss"]

    def reset(self) -> None:
        """Set all clocks and counters to zero."""
        self.phases.reset()
        self.exposed_s = self.bytes_sent = 0.0
