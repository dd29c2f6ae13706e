"""``python -m dist_llm.prepare``: turn text into a tokenizer and token shards, as `train` otherwise does by itself."""

import json
import sys

from dist_llm.command_line import CommandLine, configuration
from dist_llm.data.prepare import prepare
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.program import run
from dist_llm.training.progress import terminal_columns


def main(argv: list[str], comm: Comm) -> int:
    """Prepare as the command line says, on rank 0."""
    parser = CommandLine("prepare", "Turn text into a tokenizer and memory-mapped token shards.", ("data",))
    arguments = parser.parse_on_rank_0(argv, comm)
    if arguments is None:
        return 0
    folder = comm.on_rank_0(lambda: prepare(configuration(arguments).data, progress=terminal_columns() > 0))
    if comm.rank == 0:
        print(json.dumps(json.loads((folder / "meta.json").read_text(encoding="utf-8")), indent=1))
        print(f"shards in {folder}; train on them with --data.shards={folder}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
