"""What rank 0 shows while a run goes on: a bar on a terminal, plain lines elsewhere, nothing on the other ranks."""

import os
import shutil
import sys
import time

from tqdm import tqdm

EVALUATION_LINES_S, EVALUATION_BAR_S = 15.0, 0.5  # between two words on an evaluation
PLAIN_LINES = 20  # about so many progress lines in a run whose output is not a terminal


class Progress:
    """Progress of a run.

    Parameters
    ----------
    done, total : int
        Steps finished at the start, and in the whole run.
    shown : bool
        False on every rank but 0.
    """

    def __init__(self, done: int, total: int, shown: bool) -> None:
        self._shown, self._total = shown, total
        self._every = max(1, total // PLAIN_LINES)
        self._start, self._done_at_start = time.perf_counter(), done
        self._evaluated, self._said_s = 0, 0.0  # batches of an evaluation under way, and when that was last said
        self._bar: tqdm | None = None
        if shown and (columns := terminal_columns()):
            # tqdm finds no room for a bar on the terminals that Open MPI makes up, of 0 columns and 0 rows.
            self._bar = tqdm(initial=done, total=total, unit="step", file=sys.stdout, ncols=columns, nrows=24)

    def step(self, finished: int, loss: float, lr: float, tokens_per_s: float) -> None:
        """Show that `finished` steps are done."""
        figures = f"loss {loss:.3f}  lr {lr:.1e}  {tokens_per_s:,.0f} tokens/s"
        if self._bar is not None:
            self._bar.set_postfix_str(figures, refresh=False)
            self._bar.update(finished - self._bar.n)
        elif self._shown and (finished % self._every == 0 or finished in (self._done_at_start + 1, self._total)):
            elapsed = time.perf_counter() - self._start
            left = elapsed / (finished - self._done_at_start) * (self._total - finished)
            bar = "#" * (20 * finished // self._total)
            self._print(f"[{bar:<20}] step {finished}/{self._total}  {figures}  {_clock(left)} left")

    def evaluating(self, done: int, total: int) -> None:
        """Show that so many of the batches of an evaluation are done; in a log, now and then if it takes long."""
        now, every_s = time.perf_counter(), EVALUATION_LINES_S if self._bar is None else EVALUATION_BAR_S
        if not self._evaluated:  # it has just begun
            self._said_s = now
        self._evaluated = done % total
        if not self._evaluated or now - self._said_s < every_s:
            return
        self._said_s = now
        if self._bar is not None:
            self._bar.set_postfix_str(f"evaluating {done / total:.0%}")
        else:
            self._print(f"evaluating: {done / total:.0%}")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._print(text)

    def close(self) -> None:
        """Leave the bar as it is and go to the next line."""
        if self._bar is not None:
            self._bar.close()

    def _print(self, text: str) -> None:
        try:
            if self._bar is not None:
                self._bar.write(text, file=sys.stdout)
            elif self._shown:
                print(text, flush=True)
        except BrokenPipeError:  # `| head` has seen enough; the training goes on
            self._shown = False
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(text: str) -> None:
    """Print a line on stderr, above the bar if there is one."""
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


def terminal_columns() -> int:
    """Return the width of the terminal on which a person watches; 0 if there is none.

    Open MPI gives every rank a terminal of its own making, whatever its own output is, and may hold lines back until
    they are complete. Our ``mpirun`` sees to it that they are not, and tells the width of the real terminal.
    """
    if "OMPI_COMM_WORLD_SIZE" in os.environ:
        return int(os.environ.get("DIST_LLM_TERMINAL_COLUMNS", 0))
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
