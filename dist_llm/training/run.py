"""A training run: how it begins, goes on and ends, and what it leaves in its folder.

A run holds a `TrainStep` and a folder. Between the steps it evaluates, writes checkpoints, compares the replicas, shows
how far it is, and looks whether somebody has asked it to stop. How far that has come is its `Position`: if ranks die,
those that are left agree on it, and do again what was interrupted (`recovery`).
"""

import contextlib
import dataclasses
import functools
import math
import shlex
import time
from pathlib import Path

from dist_llm.data.loader import Loader
from dist_llm.errors import RankLostError, RunError
from dist_llm.fast.threads import use_threads
from dist_llm.inference.evaluation import Evaluation, StoppedError
from dist_llm.interop.huggingface import model_files
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.parallel.registry import STRATEGIES
from dist_llm.training.begin import Continued, Fresh, FromWeights, Opened
from dist_llm.training.broadcast_tokens import broadcast_tokens
from dist_llm.training.checkpoint import list_checkpoints
from dist_llm.training.checkpoint_state import val_loss
from dist_llm.training.end_mark import EndMark, write_end_mark
from dist_llm.training.limits import fitted
from dist_llm.training.metrics import evaluations_since_best
from dist_llm.training.position import Position
from dist_llm.training.precision import settled
from dist_llm.training.progress import Progress
from dist_llm.training.recovery import recover
from dist_llm.training.run_dir import locked
from dist_llm.training.run_files import RunFiles
from dist_llm.training.startup_report import startup_report
from dist_llm.training.step import TrainStep
from dist_llm.training.stop import StopRequest
from dist_llm.training.validation import Validation


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
    data : Data
    folder : Path
        Exists where rank 0 is; the other ranks never touch it.
    position : Position
    progress : Progress
    origin, began_with : int
        This rank's number, and the number of ranks, at the beginning.
    alive : list of int
        The ranks that are left, by those numbers.
    report : str
        Description of the run, shown before its first step.
    """

    def __init__(self, beginning: Fresh | Continued, comm: Comm) -> None:
        config, self.comm = settled(beginning.config, comm), comm
        keep_freed_memory()
        # BLAS may split a sum among threads: the bits of a product depend on their number.
        one_thread = STRATEGIES[config.parallel.strategy].load().deterministic
        # Before rank 0 is given its share of the cores: all of them prepare the text.
        self.shards = comm.on_rank_0(beginning.find_shards)
        placement = place(comm, config.parallel.threads or (1 if one_thread else None))
        self.data, received = broadcast_tokens(self.shards, comm)
        hosts = comm.allgather(placement.host)
        self.config = config = comm.on_rank_0(lambda: fitted(config, self.data, hosts))
        loader = comm.on_every_rank(lambda: Loader.of(self.data.train, config))
        use_threads(placement.threads)
        self.train_step = TrainStep(config, loader, comm)
        comm.watchdog.timeout_s = config.parallel.timeout_s

        with contextlib.ExitStack() as held:
            held.callback(lambda: self.train_step.close())
            nothing = Opened(Path(), {}, 0)
            opened = comm.on_every_rank(
                lambda: (
                    held.enter_context(beginning.open(config, self.data, self.shards)) if comm.rank == 0 else nothing
                )
            )
            self.folder, step, has_state = comm.on_rank_0(lambda: (opened.folder, opened.step, bool(opened.state)))
            if has_state:
                self.train_step.load_state_dict(opened.state, step)
            self._held = held.pop_all()
        self.position = self.position_in_folder(step)
        self.origin, self.began_with, self.alive = comm.rank, comm.size, list(range(comm.size))
        self._stop = self._held.enter_context(contextlib.closing(StopRequest()))
        self._validation = Validation(config, self.data, comm, self._stop, self.folder)
        self._files: RunFiles | None = None  # on rank 0
        self.progress = Progress(step, config.train.max_steps, shown=False)
        self.open_files()
        self.report = startup_report(config, self.train_step, self.data, self.shards, comm, placement, received)
        self.report += f"\nrun      {self.folder}"
        if isinstance(beginning, FromWeights):
            self.report += f", from the weights of {beginning.source}"
        elif step:
            self.report += f", continued after step {step}"

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self._close_files()
        self._held.close()

    def train(self) -> Evaluation | None:
        """Train until ``max_steps``, until ``patience`` is over, or until a signal asks for the end.

        It leaves a checkpoint in any case.

        Returns
        -------
        Evaluation or None
            Evaluation of the finished run, over the whole validation split; None if a signal stopped it before.

        Raises
        ------
        RunError
            The loss is no longer finite, the replicas have come apart, or too many ranks have died.
        UserError
            A file of the run cannot be written.
        """
        try:
            while not self._go_on():
                pass
        except RunError as error:
            hint = self._resume_hint() if error.agreed else ""
            raise RunError(f"{error}{hint}", agreed=error.agreed) from error
        return self.position.evaluation

    def _go_on(self) -> bool:
        """Take a step or settle what is due after it, with the ranks that are left; return whether it was the end."""
        try:
            if self.position.settled:
                self._take_step()
            else:
                self._settle()
        except Exception as error:
            # What calls returned while a rank was dying need not be right, and may have led to any error.
            lost = isinstance(error, RankLostError) or (self.config.parallel.recover and self.comm.has_lost())
            if not (self.config.parallel.recover and self.comm.survives and lost):
                raise
            recover(self)
        return self.position.ended

    def _take_step(self) -> None:
        step = self.train_step
        if step.step == 0 and not step.strategy.replicated and self.config.parallel.recover:
            self._checkpoint(last=False)  # there must always be one to go back to
        with self.comm.watchdog.phase("step"):
            start = time.perf_counter()
            # Without its folder the run stops, and the checkpoint that it would leave tells why.
            stop = self._stop.received or (self._files is not None and self._files.metrics.is_in_vain)
            result = step(stop, sync=self._are_replicas_used_after(step.step + 1))
            seconds = time.perf_counter() - start
        self.position = dataclasses.replace(
            self.position, step=step.step, result=result, seconds=seconds, settled=False
        )

    def _settle(self) -> None:
        """Do what is due after a step; if a rank dies meanwhile, all of it is done again."""
        step, train, position = self.train_step, self.config.train, self.position
        result = position.result
        assert result is not None
        record = position.record(step.tokens_per_step, self.comm.size)
        self.progress.step(result.step, result.loss, result.lr, record["tokens_per_s"])
        at_end, stopped = step.step == train.max_steps, result.stopped
        evaluates = at_end or (_due(step.step, train.eval_interval) and not stopped)
        saves = at_end or stopped or _due(step.step, train.checkpoint_interval)
        if saves or _due(step.step, self.config.parallel.check_interval):
            step.check_replicas()
        if saves or evaluates:
            step.check_weights()
        if saves:  # before an evaluation, which may take longer than there is time
            self._checkpoint(last=at_end or stopped)
        best, since = position.best_val_loss, position.since_best
        evaluation, final = None, None
        if evaluates:
            try:
                with step.averaged():
                    evaluation = self._validation.on_part(step.model, step.step, self.progress, record)
                    best, since = (evaluation.loss, 0) if evaluation.loss < best else (best, since + 1)
                    if at_end or 0 < train.patience <= since:
                        final = self._validation.on_all(step.model, step.step, self.progress, record, evaluation)
            except StoppedError:
                stopped = True
        last = stopped or final is not None
        if last and not saves:
            step.check_replicas()
        if not saves and (last or (evaluation and since == 0)):
            self._checkpoint(last)
            saves = True
        if self._files and evaluation and saves:
            self._files.checkpoints.record_val_loss(step.step, evaluation.loss)
        if self._files and (last or evaluation or position.losses or _due(step.step, self.config.log.interval)):
            self._files.metrics.write(record)
        if last or evaluation:
            self.comm.on_rank_0(self._draw_loss_curve)
        if last:
            self.comm.on_rank_0(lambda: self._finish("stopped" if final is None else "finished"))
        self.comm.agree()
        self.position = dataclasses.replace(
            position, best_val_loss=best, since_best=since, settled=True, evaluation=final, ended=last, losses=[]
        )

    def _are_replicas_used_after(self, step: int) -> bool:
        """Whether an evaluation, a checkpoint or a comparison follows a step, so that all ranks must be in sync."""
        train, check_interval = self.config.train, self.config.parallel.check_interval
        intervals = (train.eval_interval, train.checkpoint_interval, check_interval)
        return step == train.max_steps or any(_due(step, interval) for interval in intervals)

    def _checkpoint(self, last: bool) -> None:
        """Begin to write a checkpoint of this step; the run ends with it, or not."""
        step = self.train_step.step
        info = {
            "step": step,
            "tokens": step * self.train_step.tokens_per_step,
            "val_loss": None,
            "seed": self.config.train.seed,
            "shards": str(self.shards),
            "train_tokens": self.data.train.fingerprint,
            "precision": self.config.model.precision,
        }
        state = self.train_step.state_dict()

        def write() -> None:
            assert self._files is not None
            self._files.checkpoints.write(state, info, self._model_files, last)

        self.comm.on_rank_0(write)

    @functools.cached_property
    def _model_files(self) -> dict[str, str]:
        """What makes a checkpoint a model of Hugging Face's; the same in all of a run."""
        return model_files(self.config.model, self.config.vocab_size, self.data.tokenizer)

    def open_files(self) -> None:
        """Let rank 0, and no other, hold the files that the run writes to, from its position on; collective."""
        done = self.position.step - (not self.position.settled)

        def hold() -> None:
            if self.comm.rank > 0:
                self._close_files()
            elif self._files:
                self._files.rewind(done)
            else:
                if self.comm.size < self.began_with:  # the rank that held the folder has just died
                    self._held.enter_context(locked(self.folder, wait_s=10))
                self.progress = Progress(done, self.config.train.max_steps, shown=True)
                self._files = RunFiles(self.folder, self.config, done)

        self.comm.on_every_rank(hold)

    def _close_files(self) -> None:
        self.progress.close()
        if self._files:
            self._files.close()
        self._files = None

    def _draw_loss_curve(self) -> None:
        assert self._files is not None
        self._files.draw_loss_curve(self.progress.say)

    def _finish(self, how: str) -> None:
        assert self._files is not None
        self._files.checkpoints.finish()
        write_end_mark(self.folder, EndMark(how, self.train_step.step, self.config.train.max_steps))

    def position_in_folder(self, step: int) -> Position:
        """Return the position after a step of which there is a checkpoint, or at the beginning; collective."""

        def look() -> Position:
            best = min(map(val_loss, list_checkpoints(self.folder)), default=math.inf)
            return Position(step, best, evaluations_since_best(self.folder, step))

        return self.comm.on_rank_0(look)

    def _resume_hint(self) -> str:
        """Return how to go back to the last checkpoint, if there is one."""
        if self._files:
            self._files.checkpoints.wait()
        if not self.comm.on_rank_0(lambda: list_checkpoints(self.folder)):
            return ""
        return f"; --resume {shlex.quote(str(self.folder))} goes back to the last checkpoint"


def _due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0
