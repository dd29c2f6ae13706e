"""Looking at a run's model between its steps: its loss on the validation text, and what it writes."""

import time
from pathlib import Path
from typing import Any

from dist_llm.config import Config
from dist_llm.data.loader import validation_windows
from dist_llm.data.preparation import Data
from dist_llm.inference.evaluation import Evaluation, Watcher, evaluate, spread
from dist_llm.model.llama import Llama
from dist_llm.model.micro_batch import micro_batch_size
from dist_llm.parallel.comm import Comm
from dist_llm.text import printable
from dist_llm.training.progress import Progress
from dist_llm.training.sample import write_sample
from dist_llm.training.stop import StopRequest


class Validation(Watcher):
    """Evaluates a run's model; all calls are collective, and raise `StoppedError` if a rank was asked to stop.

    Parameters
    ----------
    config : Config
    data : Data
    comm : Comm
    stop : StopRequest
    folder : Path
        Run folder, for the samples.
    """

    def __init__(self, config: Config, data: Data, comm: Comm, stop: StopRequest, folder: Path) -> None:
        self._config, self._data, self._comm, self._stop, self._folder = config, data, comm, stop, folder
        self._progress: Progress | None = None

    def on_part(self, model: Llama, step: int, progress: Progress, record: dict[str, Any]) -> Evaluation:
        """Evaluate on ``eval_tokens``, let the model write, and add what is found to the record of the step."""
        start = time.perf_counter()
        evaluation = self._evaluate(model, self._config.train.eval_tokens, progress)
        record["val_loss"] = evaluation.loss
        record["val_perplexity"] = evaluation.perplexity
        record["val_bits_per_byte"] = evaluation.bits_per_byte
        record["val_seconds"] = time.perf_counter() - start
        progress.say(f"step {step}: validation loss {_described(evaluation)}")
        config, (tokenizer, _, val) = self._config, self._data
        with self._comm.watchdog.phase("sample"):
            sample = self._comm.on_rank_0(
                lambda: write_sample(config, model, tokenizer, val, step, self._folder, lambda: self.stopped)
            )
        if sample:
            progress.say("  | " + printable(sample).replace("\n", "\n  | "))
        return evaluation

    def on_all(
        self, model: Llama, step: int, progress: Progress, record: dict[str, Any], part: Evaluation
    ) -> Evaluation:
        """Evaluate on the whole split, given the evaluation on a part of it, and add that to the record."""
        evaluation = part
        windows = validation_windows(self._data.val, self._config.model.max_seq_len)
        if len(spread(windows, self._config.train.eval_tokens)) < len(windows):
            evaluation = self._evaluate(model, 0, progress)
            progress.say(f"step {step}: loss on the whole validation text {_described(evaluation)}")
        record["full_val_loss"] = evaluation.loss
        record["full_val_perplexity"] = evaluation.perplexity
        record["full_val_bits_per_byte"] = evaluation.bits_per_byte
        return evaluation

    def _evaluate(self, model: Llama, n_tokens: int, progress: Progress) -> Evaluation:
        (tokenizer, _, val), batch_size = self._data, micro_batch_size(self._config)
        self._progress = progress
        with self._comm.watchdog.phase(f"evaluation of {n_tokens or 'all'} tokens"):
            return evaluate(model, val, tokenizer, self._comm, batch_size, n_tokens, self)

    def done(self, n: int, total: int) -> None:
        """Show how far an evaluation is."""
        assert self._progress is not None
        self._progress.evaluating(n, total)

    @property
    def stopped(self) -> bool:
        """Whether this rank was asked to stop."""
        return self._stop.received


def _described(evaluation: Evaluation) -> str:
    return (
        f"{evaluation.loss:.4f} nats per token, perplexity {evaluation.perplexity:.2f}, "
        f"{evaluation.bits_per_byte:.4f} bits per byte"
    )
