"""``python -m tests.mpi.far_train ...``: train as if only rank 0's host had the text and the run folder."""

import os
import sys
import tempfile
from pathlib import Path

from dist_llm import train
from dist_llm.errors import UserError
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.program import run
from dist_llm.training import open_everywhere


def main(argv: list[str], comm: Comm) -> int:
    if comm.rank:

        def nothing_here(folder: Path) -> None:
            raise UserError(f"{folder} is missing")

        open_everywhere.open_data = nothing_here
        os.chdir(tempfile.mkdtemp())
    return train.main(argv, comm)


if __name__ == "__main__":
    sys.exit(run(main))
