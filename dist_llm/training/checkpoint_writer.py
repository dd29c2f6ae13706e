"""Writing checkpoints beside the training: the step goes on with its arrays, a thread writes a copy of them.

At most one checkpoint is being written, and the next one waits for it. To hold a second copy until the first is written
would cost rank 0 as much memory again, and to drop one of the two would leave out a checkpoint that was asked for; a
disk that is slower than the training makes it wait either way.
"""

import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from dist_llm.errors import UserError
from dist_llm.training.checkpoint import checkpoint_folder, record_val_loss, save_checkpoint
from dist_llm.training.progress import warn
from dist_llm.training.pruning import prune_checkpoints
from dist_llm.training.run_dir import check_run_dir_is_there

Parts = Mapping[str, Mapping[str, np.ndarray]]


class CheckpointWriter:
    """Writes a run's checkpoints, and removes old ones; rank 0 has one.

    A checkpoint that cannot be written is told once, and the run goes on: the next one is another attempt.

    Parameters
    ----------
    run_dir : Path
        A run folder, held by this process.
    keep : int
        The last so many checkpoints are kept, and the one with the lowest validation loss.
    say : callable, optional
        Is told in a line what goes wrong meanwhile, from any thread.
    """

    def __init__(self, run_dir: Path, keep: int, say: Callable[[str], None] = warn) -> None:
        self._run_dir, self._keep, self._say = run_dir, keep, say
        self._thread = ThreadPoolExecutor(1, "checkpoint-writer")
        self._jobs: list[Future[None]] = []
        self._last: Path | None = None
        self._failure: UserError | None = None
        self._told = False

    def write(
        self, parts: Parts, info: Mapping[str, Any], texts: Mapping[str, str] | None = None, last: bool = False
    ) -> None:
        """Begin to write a checkpoint, from a copy of the arrays.

        Parameters
        ----------
        parts, info, texts
            As `save_checkpoint`.
        last : bool
            Whether the run ends with it, so that `finish` tells if it cannot be written.

        Raises
        ------
        UserError
            The run folder is gone.
        """
        self.wait()
        check_run_dir_is_there(self._run_dir)
        copied = {part: {name: np.array(array) for name, array in arrays.items()} for part, arrays in parts.items()}
        self._last = checkpoint_folder(self._run_dir, info["step"])
        self._jobs.append(self._thread.submit(self._write, copied, dict(info), dict(texts or {}), last))

    def record_val_loss(self, step: int, loss: float) -> None:
        """Record, as soon as it is written, what the checkpoint after a step was measured to be, in nats per token."""
        self._jobs.append(self._thread.submit(self._record, step, loss))

    def wait(self) -> None:
        """Wait until all that was asked for is written, or cannot be."""
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.result()

    def finish(self) -> None:
        """Wait for the last checkpoint.

        Raises
        ------
        UserError
            It could not be written, or is gone.
        """
        self.wait()
        if self._failure:
            raise self._failure
        check_run_dir_is_there(self._run_dir)
        if self._last and not self._last.exists():
            raise UserError(f"the checkpoint {self._last} has been deleted while the run was under way")

    def close(self) -> None:
        """End the thread, after what it is writing."""
        self._thread.shutdown()

    def _write(self, parts: Parts, info: dict[str, Any], texts: dict[str, str], last: bool) -> None:
        self._failure = None
        try:
            check_run_dir_is_there(self._run_dir)  # which must not come to be again with nothing else in it
            save_checkpoint(self._run_dir, parts, info, texts)
        except UserError as error:
            self._failure = error
            if not last:
                self._tell(f"{error}; the run goes on, and tries again at its next checkpoint")
            return
        self._prune()

    def _record(self, step: int, loss: float) -> None:
        if self._failure:
            return
        try:
            record_val_loss(self._run_dir, step, loss)
        except (UserError, OSError) as error:
            self._tell(f"cannot record the validation loss of the checkpoint after step {step}: {error}")
            return
        self._prune()

    def _prune(self) -> None:
        try:
            prune_checkpoints(self._run_dir, self._keep)
        except OSError as error:
            self._tell(f"cannot remove an old checkpoint: {error}")
        else:
            self._told = False

    def _tell(self, text: str) -> None:
        if not self._told:
            with contextlib.suppress(OSError):  # nobody may be there to read it
                self._say(text)
        self._told = True
