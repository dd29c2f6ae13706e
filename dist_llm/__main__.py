"""Train LLaMA-style language models on CPUs with nothing but Python, NumPy and MPI.

    dist-llm train --data.path=FILE-OR-FOLDER
    mpirun -n 4 dist-llm train --resume runs/run-001
    dist-llm generate --help

``dist-llm COMMAND`` and ``python -m dist_llm.COMMAND`` are the same.
"""

import ast
import importlib
import sys
from pathlib import Path

from dist_llm import __version__
from dist_llm.errors import UserError, did_you_mean
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.program import run

COMMANDS = (
    "train", "prepare", "evaluate", "generate", "explain", "runs", "export", "benchmark", "scaling", "launch",
    "setup-mpi",
)  # fmt: skip


def main() -> int:
    """Run a command, or list them."""
    return run(dispatch)


def dispatch(argv: list[str], comm: Comm) -> int:
    """Call the command that the first argument names, with the others.

    Raises
    ------
    UserError
        There is no such command.
    """
    match argv:
        case [] | ["-h" | "--help" | "help", *_]:
            if comm.rank == 0:
                print(overview())
            return 0
        case ["--version", *_]:
            if comm.rank == 0:
                print(f"dist_llm {__version__}")
            return 0
        case [name, *rest] if name.replace("_", "-") in COMMANDS:
            module = importlib.import_module(f"dist_llm.{name.replace('-', '_')}")
            return int(module.main(rest, comm))
    raise UserError(f"unknown command {argv[0]}{did_you_mean(argv[0], COMMANDS)}", agreed=True)


def overview() -> str:
    """Return what this program is, and a line for each command: the first of its module's docstring."""
    lines = [(__doc__ or "").strip(), "", "commands:"]
    for name in COMMANDS:
        source = Path(__file__).with_name(f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
        docstring = ast.get_docstring(ast.parse(source)) or ""
        lines.append(f"  {name:<10} {docstring.splitlines()[0]}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
