"""Compare runs: a table of the settings in which they differ and of what they reached, and a picture of their curves.

    python -m dist_llm.runs
    python -m dist_llm.runs runs/run-001 runs/run-004 --out compared.png

Without names, all runs in ./runs are compared.
"""

import sys
from pathlib import Path

from dist_llm.command_line import CommandLine
from dist_llm.errors import UserError
from dist_llm.measuring.tables import Section, count
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.program import run
from dist_llm.training.runs_picture import draw_runs
from dist_llm.training.summary import find_runs, summarize, table

FOLDER = Path("runs")


def main(argv: list[str], comm: Comm) -> int:
    """Compare runs as the command line says, on rank 0."""
    parser = CommandLine("runs", __doc__)
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="*", help="run folders (default: all in ./runs)")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, default=Path("runs.png"), help="picture (default: runs.png)"
    )
    arguments = parser.parse_on_rank_0(argv, comm)
    if arguments is None:
        return 0

    def compare() -> None:
        folders = [folder.expanduser() for folder in arguments.runs] or find_runs(FOLDER)
        if not folders:
            raise UserError(f"there are no runs in {FOLDER.resolve()}: name run folders, or train one")
        summaries = [summarize(folder) for folder in folders]
        rows = table(summaries)
        words = (0, len(rows[0]) - 1)
        print(Section(count(len(folders), "run"), rows, words).text())
        picture = arguments.out.expanduser()
        try:
            drawn = draw_runs(summaries, picture)
        except OSError as error:
            raise UserError(f"cannot write {picture} ({error.strerror}): name another file with --out") from error
        print(f"curves in {drawn}" if drawn else "no picture: no losses, or matplotlib is not installed")

    comm.on_rank_0(compare)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
