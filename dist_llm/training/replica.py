"""A rank's replica of the weights: the model, and the average of its weights where the run has one.

Whether the weights are sound, and the same on all ranks, is looked at here.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from dist_llm.config import Config
from dist_llm.errors import RunError
from dist_llm.fast.selection import layers_of
from dist_llm.model.llama import Llama
from dist_llm.optim.average import WeightAverage
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.strategy import State, Strategy
from dist_llm.seeding import generator
from dist_llm.training.observer import Observer

TRAINED = "trained_weights"  # the part of the state that "model" is the average of


class Replica:
    """The weights.

    Parameters
    ----------
    config : Config
    comm : Comm
        All ranks begin with rank 0's weights; collective.
    model : Llama, optional
        By default it is random, derived from ``train.seed``.
    observer : Observer
    """

    def __init__(self, config: Config, comm: Comm, model: Llama | None, observer: Observer) -> None:
        if model is None:
            layers = layers_of(config.model.precision)
            model = Llama(config.model, config.vocab_size, observe=observer.layer, layers=layers)
            if comm.rank == 0:
                model.params.initialize(generator(config.train.seed, "weights"))
        self.model = model
        comm.bcast_(model.params.data)
        self._average = WeightAverage(model.params.data, config.optim.average) if config.optim.average else None

    def updated(self, step: int) -> None:
        """Take the weights after a step into the average."""
        if self._average:
            self._average.update(step)

    @contextmanager
    def averaged(self, strategy: Strategy) -> Iterator[None]:
        """Let the model have the average, if there is one, instead of the weights that are trained; collective."""
        if self._average is None:
            yield
            return
        strategy.mean_(self._average.data)
        with self._average.in_use():
            yield

    def is_finite(self) -> bool:
        """Whether all weights of this rank are finite numbers."""
        weights = self.model.params.data
        return math.isfinite(np.vdot(weights, weights))

    def check_equal(self, comm: Comm, step: int) -> None:
        """Compare the ranks' weights, every bit of them; collective.

        Raises
        ------
        RunError
            They have come apart.
        """
        digests = comm.allgather(hashlib.blake2b(self.model.params.data.data).hexdigest())
        different = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
        if different:
            raise RunError(
                f"after step {step} the parameters of rank {', '.join(map(str, different))} differ from those of "
                "rank 0: the replicas have come apart (faulty memory, or unlike machines or libraries?)",
                agreed=True,
            )

    def state_dict(self, strategy: Strategy) -> dict[str, State]:
        """Return the model's weights, and those that are trained if it is their average; collective."""
        if self._average is None:
            return {"model": self.model.state_dict()}
        strategy.mean_(self._average.data)
        return {"model": self.model.state_dict(self._average.data), TRAINED: self.model.params.state_dict()}

    def load_state_dict(self, state: Mapping[str, State], comm: Comm) -> None:
        """Restore what `state_dict` returned, given on rank 0; collective. The average begins with the model.

        Raises
        ------
        UserError
            The weights are those of another model.
        """
        params = self.model.params
        if comm.rank == 0:
            self.model.load_state_dict(state["model"])
        comm.bcast_(params.data)
        if self._average:
            self._average.data[...] = params.data
        if comm.on_rank_0(lambda: TRAINED in state):
            if comm.rank == 0:
                params.load_state_dict(state[TRAINED])
            comm.bcast_(params.data)
