"""A training run: how it begins, goes on and ends, and what it leaves in its folder.

A run holds a `TrainStep` and a folder. Between the steps it evaluates, writes checkpoints, compares the replicas, shows
how far it is, and looks whether somebody has asked it to stop.
"""

import contextlib
import functools
import math
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from dist_llm.config import Config
from dist_llm.data.loader import Loader, validation_windows
from dist_llm.data.preparation import Data
from dist_llm.errors import RunError, UserError
from dist_llm.inference.evaluation import Evaluation, evaluate
from dist_llm.inference.generation import prompt_tokens
from dist_llm.interop.huggingface import model_files
from dist_llm.model.llama import count_parameters
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.parallel.registry import STRATEGIES
from dist_llm.text import printable
from dist_llm.training.begin import Continued, Fresh, FromWeights, Opened
from dist_llm.training.broadcast_tokens import broadcast_tokens
from dist_llm.training.checkpoint import list_checkpoints, val_loss
from dist_llm.training.checkpoint_writer import CheckpointWriter
from dist_llm.training.loss_curve import LossCurve
from dist_llm.training.metrics import MetricsLog, evaluations_since_best
from dist_llm.training.progress import Progress
from dist_llm.training.sample import known_prompt, write_sample
from dist_llm.training.startup_report import startup_report
from dist_llm.training.step import StepResult, TrainStep
from dist_llm.training.stop import StopRequest


class Run:
    """A run that has begun, used in a ``with`` block, which locks its folder; all calls are collective.

    Parameters
    ----------
    beginning : Fresh or Continued
    comm : Comm

    Attributes
    ----------
    config : Config
    train_step : TrainStep
    folder : Path
        Exists on rank 0; the other ranks never touch it.
    report : str
        Description of the run, shown before its first step.
    """

    def __init__(self, beginning: Fresh | Continued, comm: Comm) -> None:
        config, self.comm = beginning.config, comm
        keep_freed_memory()
        # BLAS may split a sum among threads: the bits of a product depend on their number.
        one_thread = STRATEGIES[config.parallel.strategy].load().deterministic
        # Before rank 0 is given its share of the cores: all of them prepare the text.
        self.shards = comm.on_rank_0(beginning.find_shards)
        placement = place(comm, config.parallel.threads or (1 if one_thread else None))
        self.data, received = broadcast_tokens(self.shards, comm)
        self.config = config = comm.on_rank_0(lambda: _fitted(config, self.data))
        loader = comm.on_every_rank(lambda: Loader.of(self.data.train, config))
        self.train_step = TrainStep(config, loader, comm)

        with contextlib.ExitStack() as held:
            held.callback(self.train_step.close)
            nothing = Opened(Path(), {}, 0)
            opened = comm.on_every_rank(
                lambda: (
                    held.enter_context(beginning.open(config, self.data, self.shards)) if comm.rank == 0 else nothing
                )
            )
            self.folder, step, has_state = comm.on_rank_0(lambda: (opened.folder, opened.step, bool(opened.state)))
            if has_state:
                self.train_step.load_state_dict(opened.state, step)
            self._writer = CheckpointWriter(self.folder, config.train.keep_checkpoints) if comm.rank == 0 else None
            if self._writer:
                held.callback(self._writer.close)
            self._held = held.pop_all()
        self.best_val_loss = comm.on_rank_0(lambda: min(map(val_loss, list_checkpoints(self.folder)), default=math.inf))
        self._loss_curve = LossCurve(self.folder)
        self._since_best = comm.on_rank_0(lambda: evaluations_since_best(self.folder, step))
        self.report = startup_report(config, self.train_step.model, self.data, self.shards, comm, placement, received)
        self.report += f"\nrun      {self.folder}"
        if isinstance(beginning, FromWeights):
            self.report += f", from the weights of {beginning.source}"
        elif step:
            self.report += f", continued after step {step}"

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def train(self) -> Evaluation | None:
        """Train until ``max_steps``, until ``patience`` is over, or until a signal asks for the end.

        It leaves a checkpoint in any case.

        Returns
        -------
        Evaluation or None
            Evaluation of the finished run; None if a signal stopped it before.

        Raises
        ------
        RunError
            The loss is no longer finite, or the replicas have come apart.
        UserError
            A file of the run cannot be written.
        """
        step, train, root = self.train_step, self.config.train, self.comm.rank == 0
        stop = StopRequest()
        metrics = MetricsLog(self.folder, step.step, self.config.log.tensorboard) if root else None
        progress = Progress(step.step, train.max_steps, shown=root)
        evaluation: Evaluation | None = None
        try:
            step.check_replicas()
            last = False
            while not last:
                start = time.perf_counter()
                # Without its folder the run stops, and the checkpoint that it would leave tells why.
                stopping = stop.received or (metrics is not None and metrics.is_in_vain)
                result = step(stopping, sync=self._are_replicas_used_after(step.step + 1))
                record = self._record(result, time.perf_counter() - start)
                progress.step(result.step, result.loss, result.lr, record["tokens_per_s"])
                evaluation, at_end = None, step.step == train.max_steps
                if at_end or (_due(step.step, train.eval_interval) and not result.stopped):
                    evaluation = self._evaluate(record, progress)
                last = at_end or result.stopped or self.out_of_patience
                if metrics and (last or evaluation or _due(step.step, self.config.log.interval)):
                    metrics.write(record)
                if last or _due(step.step, self.config.parallel.check_interval):
                    step.check_replicas()
                best = evaluation is not None and evaluation.loss < self.best_val_loss
                if last or best or _due(step.step, train.checkpoint_interval):
                    self._checkpoint(evaluation, last)
                if last or evaluation:
                    self.comm.on_rank_0(lambda: self._draw_loss_curve(progress))
            self.comm.on_rank_0(self._writer.finish if self._writer else lambda: None)
        except RunError as error:
            hint = self._resume_hint() if error.agreed else ""
            raise RunError(f"{error}{hint}", agreed=error.agreed) from error
        finally:
            progress.close()
            stop.close()
            if metrics:
                metrics.close()
        return evaluation

    @property
    def out_of_patience(self) -> bool:
        """Whether as many evaluations as ``patience`` allows have not improved the validation loss."""
        return 0 < self.config.train.patience <= self._since_best

    def _are_replicas_used_after(self, step: int) -> bool:
        """Whether an evaluation, a checkpoint or a comparison follows a step, so that all ranks must be in sync."""
        train, check_interval = self.config.train, self.config.parallel.check_interval
        intervals = (train.eval_interval, train.checkpoint_interval, check_interval)
        return step == train.max_steps or any(_due(step, interval) for interval in intervals)

    def _record(self, result: StepResult, seconds: float) -> dict[str, Any]:
        """Return what is written to the metrics of a step."""
        record: dict[str, Any] = {
            "step": result.step,
            "tokens": result.tokens,
            "loss": result.loss,
            "lr": result.lr,
            "grad_norm": result.grad_norm,
            "rss_bytes": result.rss_bytes,
            "tokens_per_s": self.train_step.tokens_per_step / seconds,
        }
        if self.comm.size > 1:
            record |= {"comm_exposed_s": result.comm_exposed_s, "comm_bytes": result.comm_bytes}
        if result.comm_hidden is not None:
            record["comm_hidden"] = result.comm_hidden
        return record

    def _evaluate(self, record: dict[str, Any], progress: Progress) -> Evaluation:
        start = time.perf_counter()
        model, (tokenizer, _, val) = self.train_step.model, self.data
        evaluation = evaluate(model, val, tokenizer, self.comm, self.config.train.micro_batch_size)
        self._since_best = 0 if evaluation.loss < self.best_val_loss else self._since_best + 1
        record["val_loss"] = evaluation.loss
        record["val_perplexity"] = evaluation.perplexity
        record["val_bits_per_byte"] = evaluation.bits_per_byte
        record["val_seconds"] = time.perf_counter() - start
        step = self.train_step.step
        progress.say(
            f"step {step}: validation loss {evaluation.loss:.4f} nats per token, "
            f"perplexity {evaluation.perplexity:.2f}, {evaluation.bits_per_byte:.4f} bits per byte"
        )
        sample = self.comm.on_rank_0(lambda: write_sample(self.config, model, tokenizer, val, step, self.folder))
        if sample:
            progress.say("  | " + printable(sample).replace("\n", "\n  | "))
        return evaluation

    def _draw_loss_curve(self, progress: Progress) -> None:
        try:
            self._loss_curve.draw()
        except Exception as error:  # whatever is wrong with matplotlib here, a picture is not worth a run
            progress.say(f"no loss.png: {type(error).__name__}: {error}")

    def _checkpoint(self, evaluation: Evaluation | None, last: bool) -> None:
        if evaluation is not None:
            self.best_val_loss = min(self.best_val_loss, evaluation.loss)
        step = self.train_step.step
        info = {
            "step": step,
            "tokens": step * self.train_step.tokens_per_step,
            "val_loss": None if evaluation is None else evaluation.loss,
            "seed": self.config.train.seed,
            "shards": str(self.shards),
            "train_tokens": self.data.train.fingerprint,
        }
        state = self.train_step.state_dict()

        def write() -> None:
            assert self._writer is not None
            self._writer.write(state, info, self._model_files, last)

        self.comm.on_rank_0(write)

    @functools.cached_property
    def _model_files(self) -> dict[str, str]:
        """What makes a checkpoint a model of Hugging Face's; the same in all of a run."""
        return model_files(self.config.model, self.config.vocab_size, self.data.tokenizer)

    def _resume_hint(self) -> str:
        """Return how to go back to the last checkpoint, if there is one."""
        if self._writer:
            self._writer.wait()
        if not self.comm.on_rank_0(lambda: list_checkpoints(self.folder)):
            return ""
        return f"; --resume {shlex.quote(str(self.folder))} goes back to the last checkpoint"

    def what_next(self, finished: bool) -> str:
        """Return the commands with which a user goes on, after the end of `train`."""
        folder = shlex.quote(str(self.folder))
        step, max_steps = self.train_step.step, self.config.train.max_steps
        if finished:
            python = f"{_program('python')} -m dist_llm"
            end = "finished"
            if step < max_steps:
                end = f"stopped early at step {step} of {max_steps}: {self._since_best} evaluations in a row no better"
            prompt = known_prompt(self.data.tokenizer, self.data.val)
            return (
                f"{end}; best validation loss {self.best_val_loss:.4f}. The run is in {folder}. Train on a text of "
                f"your own, or let this model write:\n  {python}.train --data.path=FILE-OR-FOLDER\n"
                f"  {python}.generate {folder}" + f" --prompt {shlex.quote(prompt)}" * bool(prompt)
            )
        launcher = f"{_program('mpirun')} -n {self.comm.size} " if self.comm.size > 1 else ""
        command = f"{launcher}{_program('python')} -m dist_llm.train --resume {folder}"
        return f"stopped after step {step} of {max_steps}, checkpoint written; continue with\n  {command}"


def _fitted(config: Config, data: Data) -> Config:
    """Return the configuration with its vocabulary, after checking that text, model and machine fit each other."""
    config = config.with_vocabulary(data.tokenizer.vocab_size)
    validation_windows(data.val, config.model.max_seq_len)
    if config.log.sample_prompt is not None:
        prompt_tokens(data.tokenizer, config.log.sample_prompt)
    parameters = count_parameters(config.model, config.vocab_size)
    needed, there = 16 * parameters, psutil.virtual_memory().total  # weights, gradients, two moments of 4 bytes each
    if needed > there:
        raise UserError(
            f"a model of {parameters:,} parameters needs {needed / 1e9:,.0f} GB on every rank before its first step, "
            f"and this machine has {there / 1e9:,.0f} GB: choose a smaller [model]"
        )
    return config


def _due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0


def _program(name: str) -> str:
    """Return how to call a program of this Python's environment: by its path, unless the environment is activated."""
    beside = Path(sys.prefix) / "bin" / name
    if sys.prefix in (sys.base_prefix, os.environ.get("VIRTUAL_ENV")) or not beside.exists():
        return name
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))
