"""``python -m dist_llm.evaluate RUN``: the loss of a run's model over its whole validation split."""

import dataclasses
import json
import sys
from pathlib import Path

from dist_llm.command_line import CommandLine, whole_number
from dist_llm.config import DataConfig
from dist_llm.data.prepare import open_data, prepare
from dist_llm.errors import UserError
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.parallel.program import run
from dist_llm.training.evaluation import evaluate
from dist_llm.training.load_run import load_run
from dist_llm.training.progress import terminal_columns


def main(argv: list[str], comm: Comm) -> int:
    """Evaluate as the command line says; under mpirun the ranks share the work."""
    parser = CommandLine("evaluate", "Measure a run's model on its whole validation split.")
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder, or one of its checkpoints")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which of a run (default: best)")
    parser.add_argument("--shards", metavar="DIR", help="where the run's token shards lie now")
    parser.add_argument("--threads", type=whole_number(1), help="BLAS threads per rank (default: usable cores / ranks)")
    arguments = parser.parse_on_rank_0(argv, comm)
    if arguments is None:
        return 0
    keep_freed_memory()
    place(comm, arguments.threads)
    model, tokenizer, config, state = comm.on_every_rank(
        lambda: load_run(arguments.run.expanduser(), arguments.checkpoint)
    )

    data: DataConfig = dataclasses.replace(config.data, shards=arguments.shards or config.data.shards)
    folder = comm.on_rank_0(lambda: prepare(data, progress=terminal_columns() > 0))
    data_tokenizer, _, val = comm.on_every_rank(lambda: open_data(folder))
    if data_tokenizer.fingerprint != tokenizer.fingerprint:
        raise UserError(f"{folder} was made with another tokenizer than {arguments.run}", agreed=True)
    result = evaluate(model, val, tokenizer, comm, config.train.micro_batch_size)
    if comm.rank == 0:
        print(json.dumps({"run": str(arguments.run), "step": state["step"]} | dataclasses.asdict(result), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
