"""Let a trained model write: continue a prompt.

    python -m dist_llm.generate runs/run-001 --prompt 'The list' --max-tokens 200
    python -m dist_llm.generate runs/run-001 --prompt 'The ' --temperature 0
    python -m dist_llm.generate runs/run-001/checkpoints/step-00000200 --seed 2

The text comes token by token; the same seed gives the same text.
"""

import sys
import time
from pathlib import Path

from dist_llm.command_line import CommandLine, whole_number
from dist_llm.inference.sampler import Sampler
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.parallel.program import run
from dist_llm.text import StreamDecoder, printable
from dist_llm.training.load_run import load


def main(argv: list[str], comm: Comm) -> int:
    """Generate as the command line says, printing each piece of text as it comes."""
    parser = CommandLine("generate", __doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder, or one of its checkpoints")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which of a run (default: best)")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="text to continue (default: none)")
    parser.add_argument("--max-tokens", type=whole_number(0), default=200, help="tokens to write (default: 200)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0: always the likeliest token (default: 0.8)")
    parser.add_argument("--top-k", type=whole_number(0), default=0, help="only the k likeliest; 0: all (default: 0)")
    parser.add_argument("--top-p", type=float, default=0.95, help="only the likeliest, to this sum (default: 0.95)")
    parser.add_argument("--seed", type=whole_number(0), default=1, help="another seed, another text (default: 1)")
    parser.add_argument("--threads", type=whole_number(1), default=1, help="BLAS threads (default: 1)")
    arguments = parser.parse_on_rank_0(argv, comm)
    if arguments is None:
        return 0

    def write() -> None:
        sampler = Sampler(arguments.temperature, arguments.top_k, arguments.top_p)
        language_model = load(arguments.run, arguments.checkpoint)
        tokens = language_model.sample(arguments.prompt, arguments.max_tokens, sampler, arguments.seed)
        shown = printable if sys.stdout.isatty() else str  # a file gets just what the model wrote
        print(arguments.prompt, end="", flush=True)
        decoder, count, start = StreamDecoder(language_model.tokenizer), 0, time.perf_counter()
        for token in tokens:
            print(shown(decoder.push(token)), end="", flush=True)
            count += 1
        print(shown(decoder.flush()))
        seconds = time.perf_counter() - start
        print(f"[{count} tokens, {count / seconds:.0f} tokens/s]", file=sys.stderr)

    keep_freed_memory()
    place(comm, arguments.threads)
    comm.on_rank_0(write)  # one rank writes; more of them would write the same
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
