"""One training step: batch, forward, backward, reduction, clipping, update.

Every rank computes the loss and the gradient of its shard of the batch, both as sums over targets divided by the number
of targets in the whole batch, so that adding them up over the ranks gives what one process would have computed; then
all ranks clip and update alike, and stay replicas of each other. A step knows no folder, no evaluation and no end.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import numpy as np

from dist_llm.config import Config
from dist_llm.data.loader import NOT_COUNTED, Loader
from dist_llm.errors import RunError
from dist_llm.fast.selection import optimizers_of
from dist_llm.model.llama import Llama
from dist_llm.model.micro_batch import micro_batch_size
from dist_llm.optim.clip import clip_, global_norm
from dist_llm.optim.registry import boundaries, make_optimizer
from dist_llm.optim.schedule import learning_rate
from dist_llm.parallel.comm import Comm, SerialComm
from dist_llm.parallel.placement import memory_bytes
from dist_llm.parallel.registry import make_strategy
from dist_llm.parallel.strategy import State
from dist_llm.partition import shard
from dist_llm.seeding import generator
from dist_llm.training.guard import StepGuard
from dist_llm.training.observer import Observer, Unobserved
from dist_llm.training.replica import Replica
from dist_llm.training.step_result import StepResult

LOSS_UNITS = 1 << 20


class TrainStep:
    """A model, its optimizer and strategy, and the steps they take; all calls are collective.

    Parameters
    ----------
    config : Config
    loader : Loader
        Source of the batches.
    comm : Comm, optional
        One process unless told.
    model : Llama, optional
        Model to begin with; rank 0's weights count. By default it is random, derived from ``train.seed``.
    observer : Observer, optional

    Attributes
    ----------
    step : int
        Steps taken so far.
    tokens_per_step : int
    guard : StepGuard
    """

    def __init__(
        self,
        config: Config,
        loader: Loader,
        comm: Comm | None = None,
        model: Llama | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.config, self.loader, self.comm = config, loader, comm or SerialComm()
        self.observer = observer or Unobserved()
        self._replica = Replica(config, self.comm, model, self.observer)
        self.model, params = self._replica.model, self._replica.model.params
        cuts = boundaries(params, config.optim)
        self.strategy = make_strategy(self.comm, params.data, params.grad, config.parallel, cuts)
        self.optimizer = make_optimizer(params, config.optim, self.strategy, optimizers_of(config.model.precision))
        self.guard = StepGuard(config.train)
        self.step = 0
        self.tokens_per_step = config.train.batch_size * config.model.max_seq_len
        # Micro-batches of other sizes have other roundings: where those matter, whole ones are dealt out.
        self._micro_batch_size = micro_batch_size(config)
        self._granularity = self._micro_batch_size if self.strategy.deterministic else 1

    def __call__(self, stop: bool = False, sync: bool = False) -> StepResult:
        """Take a step.

        Parameters
        ----------
        stop : bool
            Whether this rank was asked to stop.
        sync : bool
            Whether the parameters must be the same on all ranks afterwards, local steps or not.

        Raises
        ------
        RunError
            The loss or the gradient is not finite, or the weights were not.
        """
        # What becomes of numbers that are too large is looked at, on all ranks alike: NumPy need not warn of it.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self._step(stop, sync)

    def _step(self, stop: bool, sync: bool) -> StepResult:
        strategy, params, observer = self.strategy, self.model.params, self.observer
        with self.comm.counting() as reducing:
            strategy.begin()
            n_targets = max(1, self.loader.n_targets(self.step))
            loss_sum = self._accumulate_gradients(n_targets)
            with observer.phase("reduction"):
                strategy.reduce()
        grad = params.grad[strategy.shard]
        own_norm = global_norm(grad)
        # What all ranks must know alike, in one more reduction: the loss, the norm of the gradient, the wish to stop,
        # whether the weights were sound, each rank's memory.
        shared = np.zeros(4 + self.comm.size)
        shared[:4] = loss_sum, own_norm**2 * strategy.norm_weight, stop, not self._replica.is_finite()
        shared[4 + self.comm.rank] = memory_bytes()
        self.comm.allreduce_(shared)
        self.comm.agree()
        if shared[3]:
            raise self._unsound()
        loss, grad_norm, stopped = float(shared[0]) / n_targets, math.sqrt(shared[1]), bool(shared[2])
        left_out = self.guard.refuses(self.step + 1, loss, grad_norm)
        lr = learning_rate(self.step, self.config.train.max_steps, self.config.optim)

        def optimizer_step() -> None:
            if left_out:
                return
            clip_(grad, grad_norm if strategy.synchronous else own_norm, self.config.optim.grad_clip)
            with observer.phase("optimizer"):
                self.optimizer.prepare()
                self.optimizer.step(lr)

        with self.comm.counting() as updating, observer.phase("update"):
            strategy.update(optimizer_step, sync or stopped)
        # No call to other ranks stands between the new weights and the new number of the step: they belong together
        # if a rank dies.
        self.step += 1
        if not left_out:
            self._replica.updated(self.step)
        exposed_s = reducing.wait_s + updating.wait_s
        return StepResult(
            step=self.step,
            tokens=self.step * self.tokens_per_step,
            loss=loss,
            lr=lr,
            grad_norm=grad_norm,
            rss_bytes=[int(memory) for memory in shared[4:]],
            stopped=stopped,
            left_out=left_out,
            comm_exposed_s=exposed_s,
            comm_bytes=reducing.sent_bytes + updating.sent_bytes,
            comm_hidden=max(0.0, 1 - exposed_s / strategy.blocking_s) if strategy.blocking_s else None,
        )

    def _accumulate_gradients(self, n_targets: int) -> float:
        """Add up this rank's shard of a batch of so many targets, by micro-batches; return its summed loss in nats."""
        train, comm, model, observer = self.config.train, self.comm, self.model, self.observer
        with observer.phase("data"):
            tokens, targets = self.loader.batch(self.step, comm.rank, comm.size, self._granularity)  # (shard, T)
        first = shard(train.batch_size, comm.rank, comm.size, self._granularity).start
        # Gradients that are summed over ranks are divided by the targets of all ranks; others by those of this rank.
        scale = 1 / (n_targets if self.strategy.synchronous else max(1, int((targets != NOT_COUNTED).sum())))
        loss_sum = 0.0
        for start in range(0, len(tokens), self._micro_batch_size):
            micro = slice(start, start + self._micro_batch_size)
            last = micro.stop >= len(tokens)
            rngs = None
            if self.config.model.dropout:
                places = range(first + start, first + start + len(tokens[micro]))
                rngs = [generator(train.seed, "dropout", self.step, place) for place in places]
            with observer.phase("forward"):
                loss, cache = model.loss(tokens[micro], targets[micro], rngs)
            with observer.phase("backward"):
                if last:
                    model.loss_backward(scale, cache, self.strategy.on_grad_ready)
                else:
                    model.loss_backward(scale, cache)
            del cache  # or it would still be there while the next forward pass fills another
            if not last:
                self.strategy.micro_batch_done()
            # In multiples of a millionth or so, sums of losses are exact, whoever adds them up in whatever order.
            loss_sum += round(loss * LOSS_UNITS) / LOSS_UNITS if math.isfinite(loss) else loss
        return loss_sum

    def _unsound(self) -> RunError:
        return RunError(f"the weights after step {self.step} are not finite numbers: lower --optim.lr", agreed=True)

    def check_weights(self) -> None:
        """Look whether the weights are sound on every rank: others must never be saved.

        Raises
        ------
        RunError
            One of them is not a finite number.
        """
        if not all(self.comm.allgather(self._replica.is_finite())):
            raise self._unsound()

    def averaged(self) -> AbstractContextManager[None]:
        """Let the model have the average of its weights, if there is one, while it is evaluated; collective."""
        return self._replica.averaged(self.strategy)

    def check_replicas(self) -> None:
        """Compare the ranks' parameters, every bit of them.

        Raises
        ------
        RunError
            They have come apart.
        """
        self._replica.check_equal(self.comm, self.step)

    def state_dict(self) -> dict[str, State]:
        """Return the state of model, optimizer and strategy: whole on rank 0, and not to be used on the others."""
        return {
            **self._replica.state_dict(self.strategy),
            "optimizer": self.optimizer.state_dict(),
            "strategy": self.strategy.state_dict(),
            "guard": self.guard.state_dict() if self.comm.rank == 0 else {},
        }

    def load_state_dict(self, state: Mapping[str, State], step: int) -> None:
        """Restore what `state_dict` returned after a step, given on rank 0.

        Parameters
        ----------
        state : mapping
            May have weights alone: the optimizer then begins anew.
        step : int

        Raises
        ------
        UserError
            The weights are those of another model.
        """
        parts = self.comm.on_rank_0(lambda: [part for part, arrays in state.items() if arrays])
        self._replica.load_state_dict(state, self.comm)
        if "optimizer" in parts:
            optimizer = state.get("optimizer", {})
            if optimizer:  # before version 0.2, checkpoints left the optimizer's steps out, which are those of the run
                optimizer = {"steps": np.array([step]), **optimizer}
            self.optimizer.load_state_dict(optimizer)
        if "strategy" in parts:
            self.strategy.load_state_dict(state.get("strategy", {}))
        if "guard" in parts:
            self.guard.load_state_dict(self.comm.on_rank_0(lambda: dict(state["guard"])))
        self.step = step

    def rejoin(self) -> None:
        """Go on after the communicator has shrunk, where the strategy is `replicated`; collective.

        When a rank dies, one of the others may have finished the step and another not yet: whoever is further gives its
        state to the rest. If more ranks die meanwhile, every state is as it was, or as it shall be.
        """
        steps = self.comm.allgather(self.step)
        source, last = steps.index(max(steps)), max(steps)
        if min(steps) < last:
            state: dict[str, State] = {}
            if self.comm.rank == source:
                with self._alone():
                    state = self.state_dict()
            state = self.comm.allgather(state)[source]
            if self.step < last:
                with self._alone():
                    self.load_state_dict(state, last)
        self.strategy.rejoin(self.comm)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let this replica, which has all of the state, speak for itself."""
        comm, self.comm = self.comm, SerialComm()
        self.strategy.rejoin(self.comm)
        try:
            yield
        finally:
            self.comm = comm

    def close(self) -> None:
        """End what runs beside the steps."""
        self.strategy.close()
