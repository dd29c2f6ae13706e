"""The training loop.

One step: every rank computes the loss and the gradient of its share of the batch, both as sums over tokens divided by
the tokens of the whole batch, so that adding them up over the ranks gives what one process would have computed; then
all ranks clip and update alike, and stay replicas of each other.
"""

import hashlib
import math
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np

from dist_llm.config import Config
from dist_llm.data.loader import Loader, Tokens
from dist_llm.errors import RunError
from dist_llm.model.llama import Llama
from dist_llm.optim.adamw import AdamW
from dist_llm.optim.clip import clip_, global_norm
from dist_llm.optim.schedule import learning_rate
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import memory_bytes
from dist_llm.parallel.reduction import Reduction
from dist_llm.seeding import generator
from dist_llm.shares import share_in_units
from dist_llm.text import Tokenizer, printable
from dist_llm.training.checkpoint import list_checkpoints, prune_checkpoints, save_checkpoint, val_loss
from dist_llm.training.evaluation import Evaluation, evaluate
from dist_llm.training.loss_curve import draw_loss_curve
from dist_llm.training.metrics import MetricsLog
from dist_llm.training.progress import Progress
from dist_llm.training.sample import write_sample
from dist_llm.training.stop import StopRequest

LOSS_UNITS = 1 << 20


class Trainer:
    """A run in progress.

    Parameters
    ----------
    config : Config
    comm : Comm
    model : Llama
        Its parameters are there on rank 0, either fresh or from a checkpoint; the other ranks receive them.
    optimizer : AdamW
        Of the reduction's part of the parameters.
    reduction : Reduction
    tokenizer : Tokenizer
    loader : Loader
        Of the training tokens.
    val_tokens : Tokens
    run_dir : Path
        Exists on rank 0; the other ranks never touch it.
    shards : Path
        The folder of the tokens, to be found again.
    step : int
        Steps finished so far.
    saved : dict of str to ndarray, optional
        On rank 0, what a checkpoint holds beside the parameters: the optimizer's moments and the reduction's state.
    """

    def __init__(
        self,
        config: Config,
        comm: Comm,
        model: Llama,
        optimizer: AdamW,
        reduction: Reduction,
        tokenizer: Tokenizer,
        loader: Loader,
        val_tokens: Tokens,
        run_dir: Path,
        shards: Path,
        step: int = 0,
        saved: dict[str, np.ndarray] | None = None,
    ) -> None:
        self.config, self.comm, self.model = config, comm, model
        self.optimizer, self.reduction = optimizer, reduction
        self.tokenizer, self.loader, self.val_tokens = tokenizer, loader, val_tokens
        self.run_dir, self.shards, self.step = run_dir, shards, step
        self.tokens_per_step = config.train.batch_size * config.model.max_seq_len
        self.best_val_loss = comm.on_rank_0(lambda: min(map(val_loss, list_checkpoints(run_dir)), default=math.inf))
        comm.broadcast_(model.params.data)
        saved = saved or {}
        if step:
            for name, moment in optimizer.moments.items():
                reduction.scatter_moment(saved.get(name), moment)
        others = {name.removeprefix("reduction."): a for name, a in saved.items() if name.startswith("reduction.")}
        reduction.restore(others, optimizer.moments)
        optimizer.steps = step
        # Micro-batches of other sizes have other roundings: where those matter, whole ones are shared out.
        self.unit = config.train.micro_batch_size if reduction.whole_micro_batches else 1

    def train(self) -> Evaluation | None:
        """Train until ``max_steps``, or until a signal asks for the end, and leave a checkpoint either way.

        Returns
        -------
        Evaluation or None
            Of the finished run; None if it was stopped before.

        Raises
        ------
        RunError
            The loss is no longer finite, or the replicas have come apart.
        UserError
            A file of the run cannot be written.
        """
        train = self.config.train
        root = self.comm.rank == 0
        stop = StopRequest()
        metrics = MetricsLog(self.run_dir, self.step) if root else None
        progress = Progress(self.step, train.max_steps, shown=root)
        evaluation: Evaluation | None = None
        self._check_replicas()
        try:
            stopped = False
            while self.step < train.max_steps and not stopped:
                start = time.perf_counter()
                record, stopped = self.train_step(stop.received)
                record["tokens_per_s"] = self.tokens_per_step / (time.perf_counter() - start)
                record |= self.reduction.metrics()
                progress.step(self.step, record["loss"], record["lr"], record["tokens_per_s"])
                last = stopped or self.step == train.max_steps
                evaluation = None
                if self.step == train.max_steps or (_due(self.step, train.eval_interval) and not stopped):
                    evaluation = self._evaluate(record, progress)
                if metrics and (last or evaluation or _due(self.step, self.config.log.interval)):
                    metrics.write(record)
                if last or _due(self.step, self.config.parallel.check_interval):
                    self._check_replicas()
                best = evaluation is not None and evaluation.loss < self.best_val_loss
                if last or best or _due(self.step, train.checkpoint_interval):
                    self._checkpoint(evaluation)
                if last or evaluation:
                    self.comm.on_rank_0(lambda: self._draw_loss_curve(progress))
        finally:
            progress.close()
            stop.close()
            self.reduction.close()
            if metrics:
                metrics.close()
        return evaluation

    def train_step(self, stop_received: bool = False) -> tuple[dict[str, Any], bool]:
        """Take one step; return its metrics and whether any rank was asked to stop, the same on every rank."""
        reduction = self.reduction
        reduction.begin()
        loss_sum = self._accumulate_gradients()
        reduction.reduce()
        grad = self.model.params.grad[reduction.part]
        own_norm = global_norm(grad)
        # What all ranks must know alike, in one more reduction: the loss, the norm of the gradient, the wish to stop,
        # each rank's memory.
        shared = np.zeros(3 + self.comm.size)
        shared[:3] = loss_sum, own_norm**2 * reduction.norm_weight, stop_received
        shared[3 + self.comm.rank] = memory_bytes()
        self.comm.all_reduce_(shared)
        loss, grad_norm, stopped = float(shared[0]) / self.tokens_per_step, math.sqrt(shared[1]), bool(shared[2])
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise RunError(
                f"the loss or gradient of step {self.step + 1} is not a finite number: lower --optim.lr or raise "
                f"--optim.warmup_steps{self._way_back()}",
                agreed=True,
            )
        lr = learning_rate(self.step, self.config.train.max_steps, self.config.optim)

        def update() -> None:
            clip_(grad, grad_norm if reduction.synchronous else own_norm, self.config.optim.grad_clip)
            self.optimizer.step(lr)

        self.step += 1
        reduction.update(update, settle=stopped or self._replicas_are_looked_at())
        record = {
            "step": self.step,
            "tokens": self.step * self.tokens_per_step,
            "loss": loss,
            "lr": lr,
            "grad_norm": grad_norm,
            "rss_bytes": [int(memory) for memory in shared[3:]],
        }
        return record, stopped

    def _replicas_are_looked_at(self) -> bool:
        """Whether an evaluation, a checkpoint or a comparison follows this step, and ranks must not be apart."""
        train, check_interval = self.config.train, self.config.parallel.check_interval
        intervals = (train.eval_interval, train.checkpoint_interval, check_interval)
        return self.step == train.max_steps or any(_due(self.step, interval) for interval in intervals)

    def _accumulate_gradients(self) -> float:
        """Add up this rank's share of the batch, micro-batch by micro-batch; return its summed loss in nats."""
        train, comm, reduction = self.config.train, self.comm, self.reduction
        tokens, targets = self.loader.batch(self.step, comm.rank, comm.size, self.unit)  # (share, T)
        first = share_in_units(train.batch_size, self.unit, comm.rank, comm.size).start
        # Where gradients are summed over ranks, each is its share of the mean over all; else the mean over its own.
        scale = 1 / (self.tokens_per_step if reduction.synchronous else tokens.size)
        loss_sum = 0.0
        for start in range(0, len(tokens), train.micro_batch_size):
            micro = slice(start, start + train.micro_batch_size)
            last = micro.stop >= len(tokens)
            rngs = None
            if self.config.model.dropout:
                places = range(first + start, first + start + len(tokens[micro]))
                rngs = [generator(train.seed, "dropout", self.step, place) for place in places]
            loss, cache = self.model.loss(tokens[micro], targets[micro], rngs)
            if last:
                self.model.loss_backward(scale, cache, reduction.ready)
            else:
                self.model.loss_backward(scale, cache)
                reduction.micro_batch_done()
            del cache  # or it would still be there while the next forward pass fills another
            # In multiples of a millionth or so, sums of losses are exact, whoever adds them up in whatever order.
            loss_sum += round(loss * LOSS_UNITS) / LOSS_UNITS if math.isfinite(loss) else loss
        return loss_sum

    def _evaluate(self, record: dict[str, Any], progress: Progress) -> Evaluation:
        start = time.perf_counter()
        evaluation = evaluate(
            self.model, self.val_tokens, self.tokenizer, self.comm, self.config.train.micro_batch_size
        )
        record["val_loss"] = evaluation.loss
        record["val_perplexity"] = evaluation.perplexity
        record["val_bits_per_byte"] = evaluation.bits_per_byte
        record["val_seconds"] = time.perf_counter() - start
        progress.say(
            f"step {self.step}: validation loss {evaluation.loss:.4f} nats per token, "
            f"perplexity {evaluation.perplexity:.2f}, {evaluation.bits_per_byte:.4f} bits per byte"
        )
        sample = self.comm.on_rank_0(
            lambda: write_sample(self.config, self.model, self.tokenizer, self.val_tokens, self.step, self.run_dir)
        )
        if sample:
            progress.say("  | " + printable(sample).replace("\n", "\n  | "))
        return evaluation

    def _draw_loss_curve(self, progress: Progress) -> None:
        try:
            draw_loss_curve(self.run_dir)
        except Exception as error:  # whatever is wrong with matplotlib here, a picture is not worth a run
            progress.say(f"no loss.png: {type(error).__name__}: {error}")

    def _checkpoint(self, evaluation: Evaluation | None) -> None:
        if evaluation is not None:
            self.best_val_loss = min(self.best_val_loss, evaluation.loss)
        state = {
            "step": self.step,
            "tokens": self.step * self.tokens_per_step,
            "val_loss": None if evaluation is None else evaluation.loss,
            "seed": self.config.train.seed,
            "shards": str(self.shards),
            "train_tokens": self.loader.tokens.fingerprint,
        }

        gathered = {name: self.reduction.gather_moment(moment) for name, moment in self.optimizer.moments.items()}
        moments = {name: moment for name, moment in gathered.items() if moment is not None}
        others = self.reduction.state(self.optimizer.moments)

        def write() -> None:
            save_checkpoint(self.run_dir, self.model.params, moments, others, state)
            prune_checkpoints(self.run_dir, self.config.train.keep_checkpoints)

        self.comm.on_rank_0(write)

    def _check_replicas(self) -> None:
        """Compare the ranks' parameters, every bit of them."""
        digests = self.comm.gather(hashlib.blake2b(self.model.params.data.data).hexdigest())
        different = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
        if different:
            raise RunError(
                f"after step {self.step} the parameters of rank {', '.join(map(str, different))} differ from those of "
                "rank 0: the replicas have come apart (faulty memory, or unlike machines or libraries?)"
                + self._way_back(),
                agreed=True,
            )

    def _way_back(self) -> str:
        if not self.comm.on_rank_0(lambda: list_checkpoints(self.run_dir)):
            return ""
        return f"; --resume {shlex.quote(str(self.run_dir))} goes back to the last checkpoint"


def _due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0
