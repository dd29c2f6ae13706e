"""A process of a contestant: prepares itself, then waits for its turns.

Started by `team`, as ``python -m dist_llm.benchmarking.worker SOCKET [RANK]``. It says who it is, is told what to do,
says how it works once it is warm, and at each turn what it measured.
"""

import sys
import traceback
from dataclasses import replace
from multiprocessing.connection import Client

from dist_llm.errors import RunError
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import peak_memory_bytes
from dist_llm.parallel.program import run


def main(argv: list[str], comm: Comm) -> int:
    """Work until the benchmark closes the connection."""
    rank = int(argv[1]) if len(argv) > 1 else comm.rank
    with Client(argv[0], "AF_UNIX") as connection:
        connection.send(rank)
        try:
            make, job = connection.recv()
            setup, turn = make(replace(job, rank=rank, comm=comm))
            connection.send(setup)
            while connection.recv():
                connection.send(replace(turn(), peak_memory_bytes=peak_memory_bytes()))
        except (EOFError, ConnectionError):  # the benchmark is gone, however it ended
            return 0
        except Exception as error:
            traceback.print_exc()
            first_line = next(iter(str(error).splitlines()), "")
            connection.send(RunError(f"{type(error).__name__}: {first_line}"))
        return 1


if __name__ == "__main__":
    sys.exit(run(main))
