"""Generation by llama2.c's run.c (github.com/karpathy/llama2.c), whose source the user names: our weights, one thread.

A turn is a run of the program, which fills a context with the likeliest tokens and says itself how fast it was.
"""

import re
import subprocess
from pathlib import Path

from dist_llm.benchmarking.tokenizing import text
from dist_llm.benchmarking.turn import Answer, Job, Warm, initial_model
from dist_llm.interop.llama2c import write_llama2c
from dist_llm.text import train_tokenizer

COMPILE = ("gcc", "-Ofast", "-march=native")


def make(job: Job, source: Path) -> Warm:
    """Compile the program, and write the model for it."""
    folder = Path(job.rendezvous)  # which the benchmark removes
    folder.mkdir()
    subprocess.run([*COMPILE, "-o", folder / "run", source, "-lm"], check=True)
    write_llama2c(folder, initial_model(job.config), train_tokenizer("bpe", text(), job.config.vocab_size))
    length = job.config.model.max_seq_len
    command = ["./run", "model.bin", "-t", "0", "-n", str(length)]

    def turn() -> Answer:
        result = subprocess.run(command, cwd=folder, check=True, capture_output=True)
        found = re.search(rb"achieved tok/s: ([0-9.]+)", result.stderr)
        assert found, result.stderr
        return Answer((length - 1) / float(found[1]), length - 1)

    turn()
    return " ".join(COMPILE), turn
