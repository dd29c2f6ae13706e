"""Turn text into a tokenizer and memory-mapped token shards, as training otherwise does by itself.

    python -m dist_llm.prepare --data.path=FILE-OR-FOLDER
    python -m dist_llm.prepare --data.path='corpus/*.jsonl.gz' --data.field=content
    python -m dist_llm.prepare --data.path=books:3,wiki.jsonl --data.vocab_size=4096
    python -m dist_llm.prepare --data.corpus=tinystories --data.tokenizer=byte --data.shards=FOLDER

Plain text is one document a file, unless lines that hold nothing but <|endoftext|> divide it; of JSON Lines a record is
a document. All cores share the work, memory stays below a gigabyte, and what was interrupted goes on with the same
command. Prints what the folder holds, as JSON. The folder is found again by later runs of the same text and settings.
"""

import json
import sys

from dist_llm.command_line import CommandLine, settings
from dist_llm.config import Config
from dist_llm.data.preparation import prepare
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.cores import usable_cores
from dist_llm.parallel.program import run


def main(argv: list[str], comm: Comm) -> int:
    """Prepare as the command line says, on rank 0."""
    arguments = CommandLine("prepare", __doc__, ("data",)).parse_on_rank_0(argv, comm)
    if arguments is None:
        return 0
    config = comm.on_rank_0(lambda: settings(arguments).apply_to(Config()))
    folder = comm.on_rank_0(lambda: prepare(config.data, True, _say, usable_cores()))
    if comm.rank == 0:
        print(json.dumps(json.loads((folder / "meta.json").read_text(encoding="utf-8")), indent=1))
        print(f"shards in {folder}; train on them with --data.shards={folder}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run(main))
