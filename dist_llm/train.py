"""Train a LLaMA-style language model, alone or under mpirun.

    python -m dist_llm.train --data.path=FILE-OR-FOLDER --train.max_steps=1000
    mpirun -n 4 python -m dist_llm.train --config shakespeare_char_cpu
    mpirun -n 4 python -m dist_llm.train --resume runs/run-001
    mpirun -n 4 python -m dist_llm.train --init-from LLAMA-FOLDER --data.path=FILE-OR-FOLDER --optim.lr=1e-4

A run folder (runs/run-001, or --train.run_dir) keeps all that a run leaves; Ctrl-C stops it with a checkpoint.
"""

import sys
from pathlib import Path

from dist_llm.command_line import CommandLine, settings
from dist_llm.config import SECTIONS
from dist_llm.errors import UserError
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.program import run
from dist_llm.training.begin import Continued, Fresh, FromWeights
from dist_llm.training.run import Run
from dist_llm.training.what_next import what_next


def command_line() -> CommandLine:
    """Return the parser of this command's arguments."""
    parser = CommandLine("train", __doc__, tuple(SECTIONS))
    parser.add_argument(
        "--resume", metavar="RUN", type=Path, help="continue this run folder, or one of its checkpoints"
    )
    parser.add_argument(
        "--init-from", metavar="MODEL", type=Path,
        help="begin with the weights of a run, a checkpoint, or a folder with a Hugging Face Llama",
    )  # fmt: skip
    return parser


def main(argv: list[str], comm: Comm) -> int:
    """Train as the command line says."""
    arguments = command_line().parse_on_rank_0(argv, comm)
    if arguments is None:
        return 0

    def plan() -> Fresh | Continued:
        wishes = settings(arguments)
        beginning: Fresh | Continued
        if arguments.resume and arguments.init_from:
            raise UserError("--resume continues a run, --init-from begins one: give one of them")
        if arguments.resume:
            beginning = Continued.plan(wishes, arguments.resume.expanduser())
        elif arguments.init_from:
            beginning = FromWeights.plan_from(wishes, arguments.init_from.expanduser())
        else:
            beginning = Fresh.plan(wishes)
        if beginning.config.parallel.recover and comm.size > 1 and not comm.survives:
            raise UserError(
                "--parallel.recover=true needs Open MPI, told to let ranks survive: mpirun --with-ft ulfm ..."
            )
        batch_size = beginning.config.train.batch_size
        if comm.size > batch_size:
            raise UserError(
                f"{comm.size} ranks but train.batch_size={batch_size}: every rank needs a sequence of each step; start "
                f"at most {batch_size} ranks or raise --train.batch_size"
            )
        return beginning

    with Run(comm.on_rank_0(plan), comm) as training:
        if comm.rank == 0:
            print(training.report, flush=True)
        training.train()
    if comm.rank == 0:  # which may be another process than before
        print(what_next(training), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
