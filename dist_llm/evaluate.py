"""Measure the loss of a run's model over its whole validation split; the ranks share the work.

    python -m dist_llm.evaluate runs/run-001
    mpirun -n 4 python -m dist_llm.evaluate runs/run-001 --checkpoint last
    python -m dist_llm.evaluate runs/run-001 --shards OTHER-SHARDS

Prints the loss in nats per token, the perplexity and the bits per byte, the same on any number of ranks.
"""

import dataclasses
import json
import sys
from pathlib import Path

from dist_llm.command_line import CommandLine, whole_number
from dist_llm.data.preparation import open_data
from dist_llm.errors import UserError
from dist_llm.inference.evaluation import evaluate
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.parallel.program import run
from dist_llm.training.load_run import load, shards_of_run


def main(argv: list[str], comm: Comm) -> int:
    """Evaluate as the command line says."""
    parser = CommandLine("evaluate", __doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder, or one of its checkpoints")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which of a run (default: best)")
    parser.add_argument("--shards", metavar="DIR", help="prepared token shards to measure on (default: the run's own)")
    parser.add_argument("--threads", type=whole_number(1), help="BLAS threads per rank (default: usable cores / ranks)")
    arguments = parser.parse_on_rank_0(argv, comm)
    if arguments is None:
        return 0
    keep_freed_memory()
    place(comm, arguments.threads)
    trained = comm.on_every_rank(lambda: load(arguments.run, arguments.checkpoint))

    if arguments.shards is None:
        folder = comm.on_rank_0(lambda: shards_of_run(trained.config, trained.state))
    else:
        folder = Path(arguments.shards).expanduser()
    tokenizer, train, val = comm.on_every_rank(lambda: open_data(folder))
    if arguments.shards is None and train.fingerprint != trained.state["train_tokens"]:
        raise UserError(f"the text has changed since {arguments.run}: the tokens in {folder} are others", agreed=True)
    if tokenizer.fingerprint != trained.tokenizer.fingerprint:
        raise UserError(f"{folder} was made with another tokenizer than {arguments.run}", agreed=True)
    result = evaluate(trained.model, val, tokenizer, comm, trained.config.train.micro_batch_size)
    if comm.rank == 0:
        found = {"run": str(arguments.run), "step": trained.state["step"]}
        print(json.dumps(found | dataclasses.asdict(result), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
