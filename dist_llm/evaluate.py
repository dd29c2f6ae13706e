"""Measure the loss of a model over a run's whole validation split, or any text; the ranks share the work.

    python -m dist_llm.evaluate runs/run-001
    mpirun -n 4 python -m dist_llm.evaluate runs/run-001 --checkpoint last
    python -m dist_llm.evaluate runs/run-001 --shards OTHER-SHARDS
    python -m dist_llm.evaluate LLAMA-FOLDER --text FILE --per-document

Prints the loss in nats per token, the perplexity and the bits per byte, the same on any number of ranks. Of a text,
each document is predicted by itself: the whole, or what stands between lines with only <|endoftext|>.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dist_llm.command_line import CommandLine, whole_number
from dist_llm.data.documents import read_texts
from dist_llm.errors import UserError
from dist_llm.inference.evaluation import Watcher, evaluate, total
from dist_llm.inference.language_model import LanguageModel
from dist_llm.model.micro_batch import micro_batch_size
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.parallel.program import run
from dist_llm.training.load_run import load, open_validation_text


def main(argv: list[str], comm: Comm) -> int:
    """Evaluate as the command line says."""
    parser = CommandLine("evaluate", __doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder, or one of its checkpoints")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which of a run (default: best)")
    texts = parser.add_mutually_exclusive_group()
    texts.add_argument(
        "--shards", metavar="DIR", type=Path, help="prepared token shards to measure on (default: the run's)"
    )
    texts.add_argument("--text", metavar="FILE", type=Path, help="UTF-8 text to measure on")
    parser.add_argument("--per-document", action="store_true", help="with --text: each document's figures too")
    parser.add_argument("--threads", type=whole_number(1), help="BLAS threads per rank (default: usable cores / ranks)")
    arguments = parser.parse_on_rank_0(argv, comm)
    if arguments is None:
        return 0
    if arguments.per_document and arguments.text is None:
        raise UserError("--per-document goes with --text FILE", agreed=True)
    keep_freed_memory()
    place(comm, arguments.threads)
    trained = comm.on_every_rank(lambda: load(arguments.run, arguments.checkpoint))

    named = {"run": str(arguments.run)} | {key: trained.state[key] for key in ("step",) if key in trained.state}
    if arguments.text is None:
        val = open_validation_text(trained, arguments.run, arguments.shards, comm)
        batch_size = micro_batch_size(trained.config)
        watcher = _Shown(comm.rank == 0)
        found = dataclasses.asdict(evaluate(trained.model, val, trained.tokenizer, comm, batch_size, watcher=watcher))
    else:
        found = _on_text(trained, arguments.text.expanduser(), arguments.per_document, comm)
    if comm.rank == 0:
        print(json.dumps(named | found, indent=1, ensure_ascii=False))
    return 0


def _on_text(trained: LanguageModel, file: Path, per_document: bool, comm: Comm) -> dict[str, Any]:
    documents = comm.on_every_rank(lambda: read_texts(file))
    sums = trained.score_texts(documents, comm, _Shown(comm.rank == 0))
    found: dict[str, Any] = dataclasses.asdict(total(sums).evaluation())
    if per_document:
        found["documents"] = [
            {"begins": document[:40]} | dataclasses.asdict(part.evaluation())
            for document, part in zip(documents, sums, strict=True)
        ]
    return found


class _Shown(Watcher):
    """Shows on stderr how far an evaluation is, if it takes longer than a few seconds."""

    def __init__(self, shown: bool) -> None:
        self._shown, self._every_s = shown, 0.1 if sys.stderr.isatty() else 10.0
        self._bar: tqdm | None = None

    def done(self, n: int, total: int) -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=total, desc="evaluating", unit="batch", leave=False, disable=not self._shown,
                delay=max(2.0, self._every_s), mininterval=self._every_s,
            )  # fmt: skip
        self._bar.update(n - self._bar.n)
        if n == total:
            self._bar.close()


if __name__ == "__main__":
    sys.exit(run(main))
