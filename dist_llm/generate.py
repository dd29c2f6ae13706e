"""Let a trained model write: continue a prompt.

    python -m dist_llm.generate runs/run-001 --prompt 'The list' --max-tokens 200
    python -m dist_llm.generate runs/run-001 --prompt 'The ' --samples 4 --stop '.'
    python -m dist_llm.generate runs/run-001/checkpoints/step-00000200 --seed 2 --prompt - < FILE
    python -m dist_llm.generate runs/run-001 --interactive

The text comes token by token; the same seed gives the same text. With --compile (the extra fast), which adds up in
another order, it may rarely be another one than without; the first time, seconds pass until it has been compiled.
"""

import sys
from argparse import Namespace
from pathlib import Path

from dist_llm.command_line import CommandLine, whole_number
from dist_llm.errors import UserError
from dist_llm.inference.console import converse, print_samples
from dist_llm.inference.conversation import Conversation
from dist_llm.inference.sampler import Sampler
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.parallel.program import run
from dist_llm.training.load_run import load


def main(argv: list[str], comm: Comm) -> int:
    """Generate as the command line says, printing each piece of text as it comes."""
    parser = CommandLine("generate", __doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder, or one of its checkpoints")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which of a run (default: best)")
    parser.add_argument("--prompt", metavar="TEXT", help="text to continue (default: none); -: what stdin has")
    parser.add_argument("--max-tokens", type=whole_number(0), default=200, help="tokens to write (default: 200)")
    parser.add_argument("--stop", default="", metavar="TEXT", help="end before this text (default: none)")
    parser.add_argument("--samples", type=whole_number(1), default=1, help="texts, computed together (default: 1)")
    parser.add_argument("--interactive", action="store_true", help="ask for one prompt after another, in one context")
    parser.add_argument("--temperature", type=float, default=0.8, help="0: always the likeliest token (default: 0.8)")
    parser.add_argument("--top-k", type=whole_number(0), default=0, help="only the k likeliest; 0: all (default: 0)")
    parser.add_argument("--top-p", type=float, default=0.95, help="only the likeliest, to this sum (default: 0.95)")
    parser.add_argument("--seed", type=whole_number(0), default=1, help="another seed, another text (default: 1)")
    parser.add_argument("--compile", action="store_true", help="several times as fast, of one text; needs numba")
    parser.add_argument("--threads", type=whole_number(1), default=1, help="BLAS threads (default: 1)")
    arguments = parser.parse_on_rank_0(argv, comm)
    if arguments is None:
        return 0
    keep_freed_memory()
    place(comm, arguments.threads)
    comm.on_rank_0(lambda: _write(arguments))  # one rank writes; more of them would write the same
    return 0


def _write(arguments: Namespace) -> None:
    sampler = Sampler(arguments.temperature, arguments.top_k, arguments.top_p)
    if arguments.interactive and (arguments.samples > 1 or arguments.prompt is not None):
        raise UserError("--interactive asks for prompts and answers each once: leave --prompt and --samples out")
    prompt = arguments.prompt or ""
    if prompt == "-":
        try:
            prompt = sys.stdin.buffer.read().decode().removesuffix("\n")  # as the shell's $(...) does
        except UnicodeDecodeError:
            raise UserError("the prompt on stdin is not UTF-8 text: convert it first, e.g. with iconv") from None
    model = load(arguments.run, arguments.checkpoint, arguments.compile)
    if arguments.interactive:
        converse(Conversation(model, arguments.max_tokens, sampler, arguments.seed, arguments.stop))
    else:
        limits = arguments.max_tokens, sampler, arguments.seed, arguments.stop
        print_samples(model, prompt, arguments.samples, *limits)


if __name__ == "__main__":
    sys.exit(run(main))
