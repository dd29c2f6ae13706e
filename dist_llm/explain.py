"""Look at a model reading a text: a page of its surprise, attention, residual stream, gradients and rotary phases.

    python -m dist_llm.explain runs/run-001 --text 'The list is sorted in place.'
    python -m dist_llm.explain LLAMA-FOLDER --text "$(head -c 500 FILE)" --out page.html

The page opens in any browser, and needs nothing else.
"""

import sys
from argparse import Namespace
from pathlib import Path

from dist_llm.atomic import write_bytes
from dist_llm.command_line import CommandLine
from dist_llm.errors import UserError
from dist_llm.explaining.page import page
from dist_llm.explaining.trace import trace
from dist_llm.measuring.tables import count
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.program import run
from dist_llm.training.load_run import load


def main(argv: list[str], comm: Comm) -> int:
    """Write the page as the command line says, on rank 0."""
    parser = CommandLine("explain", __doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder, or one of its checkpoints")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which of a run (default: best)")
    parser.add_argument("--text", metavar="TEXT", required=True, help="what the model reads, up to its context")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, default=Path("explain.html"), help="page (default: explain.html)"
    )
    arguments = parser.parse_on_rank_0(argv, comm)
    if arguments is not None:
        comm.on_rank_0(lambda: _write(arguments))
    return 0


def _write(arguments: Namespace) -> None:
    model = load(arguments.run, arguments.checkpoint)
    traced = trace(model, arguments.text)
    file = arguments.out.expanduser()
    try:
        write_bytes(file, page(traced, model, str(arguments.run)).encode(errors="replace"))
    except OSError as error:
        raise UserError(f"cannot write {file} ({error.strerror}): name another file with --out") from error
    n = count(len(traced.tokens) - 1, "token")
    print(f"{file}: {n}, {traced.bits[1:].mean():.2f} bits each; open it in a browser")


if __name__ == "__main__":
    sys.exit(run(main))
