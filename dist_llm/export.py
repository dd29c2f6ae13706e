"""Write a model in another program's form: for Hugging Face, llama.cpp (GGUF) or llama2.c.

    python -m dist_llm.export runs/run-001 --format gguf --out my-model
    python -m dist_llm.export runs/run-001 --format huggingface --dtype bfloat16 --out my-model
    python -m dist_llm.export LLAMA-FOLDER --format llama2c --out my-model

A checkpoint is a Hugging Face model as it stands; exported, it has no optimizer's state, and the type of numbers asked
for.
"""

import sys
from pathlib import Path

from dist_llm.command_line import CommandLine
from dist_llm.errors import UserError
from dist_llm.interop.export import DTYPES, export
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.program import run
from dist_llm.training.load_run import load


def main(argv: list[str], comm: Comm) -> int:
    """Export as the command line says, on rank 0."""
    parser = CommandLine("export", __doc__)
    parser.add_argument("run", metavar="MODEL", type=Path, help="run, checkpoint, or folder with a Hugging Face Llama")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which of a run (default: best)")
    parser.add_argument("--format", choices=tuple(DTYPES), required=True, help="whose form")
    kinds = "; ".join(f"{name}: {', '.join(dtypes)}" for name, dtypes in DTYPES.items())
    parser.add_argument("--dtype", default="float32", help=f"type of the numbers (default: float32; {kinds})")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder to write, new or empty")
    arguments = parser.parse_on_rank_0(argv, comm)
    if arguments is None:
        return 0

    def write() -> list[Path]:
        if arguments.dtype not in DTYPES[arguments.format]:
            raise UserError(f"--dtype for {arguments.format} is one of {', '.join(DTYPES[arguments.format])}")
        model = load(arguments.run, arguments.checkpoint)
        return export(arguments.out.expanduser(), model.model, model.tokenizer, arguments.format, arguments.dtype)

    for path in comm.on_rank_0(write):
        if comm.rank == 0:
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
