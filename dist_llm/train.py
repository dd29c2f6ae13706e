"""``python -m dist_llm.train``: train a model, alone or under mpirun.

mpirun -n 4 python -m dist_llm.train --data.path=FILE-OR-FOLDER --train.max_steps=1000
python -m dist_llm.train --resume runs/run-001
"""

import argparse
import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from dist_llm.command_line import CommandLine, configuration
from dist_llm.config import SECTIONS, Config
from dist_llm.data.loader import Loader, Tokens, validation_windows
from dist_llm.data.prepare import open_data, prepare, shard_folder
from dist_llm.durable import write_text
from dist_llm.errors import UserError
from dist_llm.inference.generate import prompt_tokens
from dist_llm.model.llama import Llama, count_parameters
from dist_llm.optim.adamw import AdamW
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.choice import choose_reduction
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.parallel.program import run
from dist_llm.seeding import generator
from dist_llm.text import Tokenizer, load_tokenizer, save_tokenizer
from dist_llm.training.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    load_training_state,
    read_state,
    set_aside_later_checkpoints,
)
from dist_llm.training.load_run import shards_of_run
from dist_llm.training.open_everywhere import open_everywhere
from dist_llm.training.progress import terminal_columns
from dist_llm.training.report import startup_report
from dist_llm.training.run_dir import (
    CONFIG,
    TOKENIZER,
    check_run_dir_is_free,
    create_run_dir,
    locked,
    read_config,
    run_dir_of,
)
from dist_llm.training.trainer import Trainer

# What a resumed run may not change: it would no longer be the same run. (The text may move, but not change: its tokens
# are compared.)
FIXED = (*(f"model.{key}" for key in SECTIONS["model"]), "train.seed", "train.batch_size", "train.run_dir")


def main(argv: list[str], comm: Comm) -> int:
    """Train as the command line says."""
    parser = CommandLine("train", "Train a LLaMA-style language model.", tuple(SECTIONS))
    parser.add_argument("--resume", metavar="RUN", help="continue this run folder, or one of its checkpoints")
    arguments = parser.parse_on_rank_0(argv, comm)
    if arguments is None:
        return 0
    config, checkpoint = comm.on_rank_0(lambda: _plan(arguments, comm.size))
    keep_freed_memory()
    # BLAS may split a sum among threads: the bits of a product depend on their number.
    deterministic = config.parallel.reduction == "deterministic"
    placement = place(comm, config.parallel.threads or (1 if deterministic else None))

    shards = comm.on_rank_0(lambda: _find_shards(arguments, config, checkpoint))
    tokenizer, train_tokens, val_tokens, received = open_everywhere(shards, comm)
    vocab_size = comm.on_rank_0(lambda: _check_fit(config, tokenizer, val_tokens))
    config = config.replace({"model": {"vocab_size": vocab_size}})
    loader = comm.on_every_rank(
        lambda: Loader(train_tokens, config.train.batch_size, config.model.max_seq_len, config.train.seed)
    )
    model = Llama(config.model, vocab_size)
    reduction = choose_reduction(comm, model.params.data, model.params.grad, config.parallel)
    optimizer = AdamW(model.params, config.optim, reduction.part)
    saved: dict[str, np.ndarray] = {}

    with contextlib.ExitStack() as held:

        def start() -> tuple[Path, int]:
            if checkpoint is None:
                run_dir = create_run_dir(config.train.run_dir)
                held.enter_context(locked(run_dir))
                write_text(run_dir / CONFIG, config.to_toml())
                save_tokenizer(tokenizer, run_dir / TOKENIZER)
                model.params.initialize(generator(config.train.seed, "weights"))
                return run_dir, 0
            run_dir = run_dir_of(checkpoint)
            held.enter_context(locked(run_dir))
            if load_tokenizer(run_dir / TOKENIZER).fingerprint != tokenizer.fingerprint:
                raise UserError(f"{shards} was made with another tokenizer than {run_dir / TOKENIZER}")
            state = load_checkpoint(checkpoint, model.params)
            saved.update(load_training_state(checkpoint, model.params))
            if state["train_tokens"] != train_tokens.fingerprint:
                raise UserError(f"the text has changed since {checkpoint}: its training tokens in {shards} are others")
            set_aside_later_checkpoints(run_dir, state["step"])
            write_text(run_dir / CONFIG, config.to_toml())
            return run_dir, state["step"]

        run_dir, step = comm.on_rank_0(start)
        trainer = Trainer(
            config, comm, model, optimizer, reduction, tokenizer, loader, val_tokens, run_dir, shards, step, saved
        )
        saved.clear()
        report = startup_report(config, model, len(train_tokens), len(val_tokens), shards, comm, placement)
        if comm.rank == 0:
            continued = f", continued after step {step}" if step else ""
            if received:
                report += (
                    f"\n         no shards where rank {', '.join(map(str, received))} runs: rank 0 sent the tokens"
                )
            print(f"{report}\nrun      {run_dir}{continued}", flush=True)
        evaluation = trainer.train()
    if comm.rank == 0:
        _say_goodbye(run_dir, trainer, evaluation is not None, comm.size)
    return 0


def _plan(arguments: argparse.Namespace, world_size: int) -> tuple[Config, Path | None]:
    """Return the configuration, and the checkpoint to continue from if there is one."""
    checkpoint = None
    if arguments.resume is None:
        config = _with_full_paths(configuration(arguments))
        check_run_dir_is_free(config.train.run_dir)
    else:
        checkpoint = find_checkpoint(Path(arguments.resume).expanduser())
        saved = read_config(run_dir_of(checkpoint))
        config = _with_full_paths(configuration(arguments, saved))
        for name in FIXED:
            was, now = _value(saved, name), _value(config, name)
            if name == "train.run_dir" and now not in (was, None):
                was, now = run_dir_of(checkpoint).resolve(), Path(now).resolve()
            if now != was:
                raise UserError(f"--resume continues the same run: {name} is {was} and cannot become {now}")
        step = read_state(checkpoint)["step"]
        if step >= config.train.max_steps:
            raise UserError(
                f"{checkpoint} is after step {step}, and train.max_steps={config.train.max_steps}: the run is "
                f"finished; --train.max_steps={2 * step} would go on"
            )
    if world_size > config.train.batch_size:
        raise UserError(
            f"{world_size} ranks but train.batch_size={config.train.batch_size}: every rank needs a sequence of each "
            f"step; start at most {config.train.batch_size} ranks or raise --train.batch_size"
        )
    return config, checkpoint


def _with_full_paths(config: Config) -> Config:
    """Return the configuration with paths that hold from another folder too, where the run may be resumed."""
    data = {k: str(Path(p).expanduser().resolve()) for k in ("path", "shards") if (p := getattr(config.data, k))}
    run_dir = config.train.run_dir and str(Path(config.train.run_dir).expanduser())
    return config.replace({"data": data, "train": {"run_dir": run_dir}})


def _value(config: Config, name: str) -> Any:
    section, key = name.split(".")
    return getattr(getattr(config, section), key)


def _find_shards(arguments: argparse.Namespace, config: Config, checkpoint: Path | None) -> Path:
    """Return the folder of shards, every byte of which has been read and found to be what was written."""
    if checkpoint is not None and not any(name.startswith("--data.") for name in vars(arguments)):
        folder = shards_of_run(config, read_state(checkpoint))
    else:
        if not shard_folder(config.data).exists():
            text = config.data.path or config.data.corpus
            print(f"preparing {text}, once; the tokens are kept in {shard_folder(config.data)}", flush=True)
        folder = prepare(config.data, progress=terminal_columns() > 0)
    for shards in open_data(folder)[1:]:
        shards.verify()
    return folder


def _check_fit(config: Config, tokenizer: Tokenizer, val_tokens: Tokens) -> int:
    """Return the size of the model's vocabulary, after checking that text, model and machine fit each other."""
    vocab_size = config.with_vocabulary(tokenizer.vocab_size).model.vocab_size
    assert vocab_size is not None
    validation_windows(val_tokens, config.model.max_seq_len)
    if config.log.sample_prompt is not None:
        prompt_tokens(tokenizer, config.log.sample_prompt)
    parameters = count_parameters(config.model, vocab_size)
    needed, there = 16 * parameters, psutil.virtual_memory().total  # weights, gradients, two moments of 4 bytes each
    if needed > there:
        raise UserError(
            f"a model of {parameters:,} parameters needs {needed / 1e9:,.0f} GB on every rank before its first step, "
            f"and this machine has {there / 1e9:,.0f} GB: choose a smaller [model]"
        )
    return vocab_size


def _say_goodbye(run_dir: Path, trainer: Trainer, finished: bool, ranks: int) -> None:
    folder = shlex.quote(str(run_dir))
    if finished:
        print(f"finished; best validation loss {trainer.best_val_loss:.4f}. The run is in {folder}; let it write with")
        print(f"  {_program('python')} -m dist_llm.generate {folder} --prompt 'The '", flush=True)
    else:
        launcher = f"{_program('mpirun')} -n {ranks} " if ranks > 1 else ""
        steps = f"step {trainer.step} of {trainer.config.train.max_steps}"
        print(f"stopped after {steps}, checkpoint written; continue with")
        print(f"  {launcher}{_program('python')} -m dist_llm.train --resume {folder}", flush=True)


def _program(name: str) -> str:
    """Return how to call a program of this Python's environment: by its path, unless the environment is activated."""
    beside = Path(sys.prefix) / "bin" / name
    if sys.prefix in (sys.base_prefix, os.environ.get("VIRTUAL_ENV")) or not beside.exists():
        return name
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))


if __name__ == "__main__":
    sys.exit(run(main))
