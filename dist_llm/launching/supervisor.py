"""A training run from its first start to its end, over crashes.

What tells an end from a crash is the run's own mark (`training.end_mark`). After a crash the run goes on from its last
good checkpoint, after a pause that grows, on the hosts that still answer.
"""

import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from dist_llm.config import Config
from dist_llm.errors import UserError
from dist_llm.launching.hosts import Host, HostWatch, answering
from dist_llm.launching.job import Stop, run_job, say
from dist_llm.launching.mpi_command import MPICommand
from dist_llm.launching.own_space import own_space
from dist_llm.settings import Settings
from dist_llm.training.checkpoint import list_checkpoints, verify_checkpoint
from dist_llm.training.checkpoint_state import DamagedCheckpointError
from dist_llm.training.end_mark import FILE, EndMark, read_end_mark, write_end_mark
from dist_llm.training.run_dir import read_config

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
STOPPED = os.EX_TEMPFAIL  # to a scheduler: not finished, start it again
# Ranks that are asked to stop in their start-up: interrupted, or ended by the signal itself (in Open MPI's and MPICH's
# words), as they do not listen yet.
IN_START_UP = (130, 128 + signal.SIGUSR1, signal.SIGUSR1)
USER_ERROR = 2  # the exit status of a mistake that another start would only repeat
BEGINNINGS = ("--resume", "--init-from")


@dataclass
class Supervisor:
    """Starts a run, and starts it again.

    Attributes
    ----------
    run_dir : Path
        Must be seen from here.
    arguments : list of str
        Those of ``python -m dist_llm.train``.
    settings : Settings
        What they say of the configuration.
    command : MPICommand
    ranks : int
    hosts : list of Host
        None: all ranks are started on this one.
    restarts : int
        So many crashes are survived.
    grace_s : float
        Seconds that ranks have to save and end when they are asked to.
    """

    run_dir: Path
    arguments: list[str]
    settings: Settings
    command: MPICommand
    ranks: int
    hosts: list[Host]
    restarts: int
    grace_s: float

    def run(self, go_on: bool) -> int:
        """Run to the end, and return the exit status: 0 only if the run has ended as it should.

        Parameters
        ----------
        go_on : bool
            Whether a run that is there already is continued rather than an error, and one that has stopped before its
            end is `STOPPED`, as for a scheduler that starts it again.
        """
        with Stop().listening() as stop:
            arguments = self._next_arguments() if go_on else self.arguments
            restart = 0
            while arguments is not None:
                before, started_s = self._mark_written(), time.monotonic()
                status = self._start(arguments, stop)
                mark = read_end_mark(self.run_dir)
                if mark and self._mark_written() != before:
                    say(f"{mark.how} at step {mark.step} of {mark.max_steps}")
                    return STOPPED if go_on and mark.how == "stopped" else 0
                if stop.asked_s is not None and status in IN_START_UP:
                    say("stopped before the first step")
                    return STOPPED if go_on else status
                ended = f"ended with status {status} after {time.monotonic() - started_s:.0f} s, and not as it should"
                if status == USER_ERROR or stop.asked_s is not None or restart >= self.restarts:
                    say(f"{self.run_dir} {ended}: there is no new {FILE}")
                    return status or 1
                pause_s = min(FIRST_PAUSE_S * 2**restart, LONGEST_PAUSE_S)
                restart += 1
                say(f"{self.run_dir} {ended}; restart {restart} of {self.restarts} in {pause_s:g} s")
                stop.sleep(pause_s)
                if stop.asked_s is not None:
                    say("stopped between two starts")
                    return STOPPED if go_on else status or 1
                self._leave_out_lost_hosts()
                arguments = self._next_arguments()
        return 0

    def _start(self, arguments: Sequence[str], stop: Stop) -> int:
        """Start the ranks once, and return the launcher's exit status."""
        words = self.command.words(self.ranks, self.hosts)
        say(f"{self.ranks} ranks{' on ' + ', '.join(h.name for h in self.hosts) if self.hosts else ''}: {self.run_dir}")
        program = [sys.executable, "-m", "dist_llm.train", *arguments]
        environment = self.command.environment(os.environ)
        # Other hosts have no such folders.
        space = nullcontext(dict[str, str]()) if self.hosts else own_space(environment)
        with HostWatch(self.hosts, shlex.split(self.command.remote_shell)) as watch, space as names:
            return run_job(
                [*words, *program], environment | names, stop, self.grace_s,
                lambda: f"no answer from {watch.lost}" if watch.lost else "",
            )  # fmt: skip

    def _leave_out_lost_hosts(self) -> None:
        """Go on with the hosts that answer, each with the ranks it had.

        Raises
        ------
        UserError
            None does.
        """
        if not self.hosts:
            return
        left = answering(self.hosts, shlex.split(self.command.remote_shell))
        lost = [host.name for host in self.hosts if host not in left]
        if not left:
            raise UserError(f"no host answers any more: {', '.join(lost)}")
        if lost:
            say(f"left out, as {'it does' if len(lost) == 1 else 'they do'} not answer: {', '.join(lost)}")
            self.hosts, self.ranks = left, sum(host.ranks for host in left)

    def _next_arguments(self) -> list[str] | None:
        """Return how to go on with what is in the run folder; None if nothing is left to do."""
        mark = read_end_mark(self.run_dir)
        checkpoint = last_good_checkpoint(self.run_dir)
        if checkpoint is None:
            self._set_aside()
            return self.arguments
        wanted, step = self.settings.changed(read_config(self.run_dir)).train.max_steps, int(checkpoint.name[5:])
        if step >= wanted or (mark and mark.how == "finished" and mark.max_steps >= wanted):
            if not mark:  # it died between its last checkpoint and its mark
                write_end_mark(self.run_dir, EndMark("finished", step, wanted))
            say(f"{self.run_dir} is finished: {step} of {wanted} steps")
            return None
        say(f"continuing from {checkpoint}")
        return [*without(self.arguments, BEGINNINGS), "--resume", str(checkpoint)]

    def _set_aside(self) -> None:
        """Rename what was left by a start that came to no checkpoint."""
        if self.run_dir.is_dir() and any(self.run_dir.iterdir()):
            number = 1
            while (aside := self.run_dir.with_name(f"{self.run_dir.name}.abandoned-{number}")).exists():
                number += 1
            self.run_dir.rename(aside)
            say(f"{self.run_dir} held no good checkpoint: it is now {aside}, and the run begins anew")

    def _mark_written(self) -> tuple[int, int] | None:
        """Return what tells one mark from the next, which replaces it."""
        try:
            stat = (self.run_dir / FILE).stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns


def last_good_checkpoint(run_dir: Path) -> Path | None:
    """Return the latest checkpoint whose files are what was written, if there is one."""
    for checkpoint in reversed(list_checkpoints(run_dir)):
        try:
            verify_checkpoint(checkpoint)
        except DamagedCheckpointError as error:
            say(str(error))
        else:
            return checkpoint
    return None


def without(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    """Return the arguments without some options and their values."""
    left: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in options:
            next(words, None)
        elif word.partition("=")[0] not in options:
            left.append(word)
    return left


def wanted_run_dir(settings: Settings) -> Path | None:
    """Return the folder that a new run is to be written to, if the settings name one."""
    run_dir = settings.changed(Config()).train.run_dir
    return Path(run_dir).expanduser() if run_dir else None
