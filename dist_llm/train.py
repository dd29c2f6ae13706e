"""``python -m dist_llm.train``: train a model, alone or under mpirun.

mpirun -n 4 python -m dist_llm.train --data.path=FILE-OR-FOLDER --train.max_steps=1000
python -m dist_llm.train --resume runs/run-001
"""

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

from dist_llm.command_line import CommandLine, configuration
from dist_llm.config import SECTIONS, Config, DataConfig
from dist_llm.data.prepare import open_data, prepare, shard_folder
from dist_llm.durable import write_text
from dist_llm.errors import UserError
from dist_llm.inference.generate import prompt_tokens
from dist_llm.model.llama import Llama
from dist_llm.optim.adamw import AdamW
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.placement import place
from dist_llm.parallel.program import run
from dist_llm.seeding import generator
from dist_llm.text import load_tokenizer, save_tokenizer
from dist_llm.training.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    read_state,
    set_aside_later_checkpoints,
)
from dist_llm.training.progress import terminal_columns
from dist_llm.training.report import startup_report
from dist_llm.training.run_dir import (
    CONFIG,
    TOKENIZER,
    check_run_dir_is_free,
    create_run_dir,
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
    placement = place(comm, config.parallel.threads)

    shards = comm.on_rank_0(lambda: _prepare_and_verify(config.data))
    tokenizer, train_tokens, val_tokens = comm.on_every_rank(lambda: open_data(shards))
    config = comm.on_rank_0(lambda: _fit_to_data(config, tokenizer.vocab_size, len(train_tokens), len(val_tokens)))
    assert config.model.vocab_size is not None
    model = Llama(config.model, config.model.vocab_size)
    optimizer = AdamW(model.params, config.optim)

    def start() -> tuple[Path, int]:
        if config.log.sample_prompt is not None:
            prompt_tokens(
                tokenizer, config.log.sample_prompt
            )  # a prompt outside the vocabulary is refused now, not later
        if checkpoint is not None:
            run_dir = run_dir_of(checkpoint)
            if load_tokenizer(run_dir / TOKENIZER).fingerprint != tokenizer.fingerprint:
                raise UserError(f"{shards} was made with another tokenizer than {run_dir / TOKENIZER}")
            state = load_checkpoint(checkpoint, model.params, optimizer)
            if state["train_tokens"] != train_tokens.fingerprint:
                raise UserError(f"the text has changed since {checkpoint}: its training tokens in {shards} are others")
            set_aside_later_checkpoints(run_dir, state["step"])
            write_text(run_dir / CONFIG, config.to_toml())
            return run_dir, state["step"]
        model.params.initialize(generator(config.train.seed, "weights"))
        run_dir = create_run_dir(config.train.run_dir)
        write_text(run_dir / CONFIG, config.to_toml())
        save_tokenizer(tokenizer, run_dir / TOKENIZER)
        return run_dir, 0

    run_dir, step = comm.on_rank_0(start)
    trainer = Trainer(config, comm, model, optimizer, tokenizer, train_tokens, val_tokens, run_dir, step)
    report = startup_report(config, model, len(train_tokens), len(val_tokens), shards, comm, placement)
    if comm.rank == 0:
        print(
            report,
            f"run      {run_dir}" + f", continued after step {step}" * (step > 0),
            sep="\n",
            flush=True,
        )
    evaluation = trainer.train()
    if comm.rank == 0:
        _say_goodbye(run_dir, trainer, evaluation is not None, comm.size)
    return 0


def _plan(arguments: argparse.Namespace, world_size: int) -> tuple[Config, Path | None]:
    """Return the configuration, and the checkpoint to continue from if there is one."""
    checkpoint = None
    if arguments.resume is None:
        config = configuration(arguments)
        check_run_dir_is_free(config.train.run_dir)
    else:
        checkpoint = find_checkpoint(Path(arguments.resume))
        saved = read_config(run_dir_of(checkpoint))
        config = configuration(arguments, saved)
        for name in FIXED:
            was, now = _value(saved, name), _value(config, name)
            if name == "train.run_dir" and now not in (was, None):
                was, now = run_dir_of(checkpoint).resolve(), Path(now).resolve()
            if now != was:
                raise UserError(f"--resume continues the same run: {name} is {was} and cannot become {now}")
        step = read_state(checkpoint)["step"]
        if step >= config.train.max_steps:
            raise UserError(
                f"{checkpoint} has finished its {config.train.max_steps} steps: "
                f"--train.max_steps={2 * config.train.max_steps} goes on"
            )
    if world_size > config.train.batch_size:
        raise UserError(
            f"{world_size} ranks but train.batch_size={config.train.batch_size}: every rank needs a sequence of each "
            f"step; start at most {config.train.batch_size} ranks or raise --train.batch_size"
        )
    # The configuration is kept with the run, which may be resumed from another folder.
    paths = {
        key: str(Path(p).expanduser().resolve())
        for key in ("path", "shards")
        if (p := getattr(config.data, key)) is not None
    }
    return config.replace({"data": paths}), checkpoint


def _value(config: Config, name: str) -> Any:
    section, key = name.split(".")
    return getattr(getattr(config, section), key)


def _prepare_and_verify(config: DataConfig) -> Path:
    """Return the folder of shards, every byte of which has been read and found to be what was written."""
    if not shard_folder(config).exists():
        print(
            f"preparing {config.path or config.corpus}, once; the tokens are kept in {shard_folder(config)}", flush=True
        )
    folder = prepare(config, progress=terminal_columns() > 0)
    for shards in open_data(folder)[1:]:
        shards.verify()
    return folder


def _fit_to_data(config: Config, vocab_size: int, n_train: int, n_val: int) -> Config:
    """Return the configuration with the vocabulary's size filled in, after checking that the text is enough."""
    model = config.model
    if model.vocab_size is not None and model.vocab_size < vocab_size:
        raise UserError(f"model.vocab_size={model.vocab_size} is less than the tokenizer's {vocab_size}")
    if n_train < model.max_seq_len + 1:
        raise UserError(
            f"the training text has {n_train} tokens, fewer than a sequence of model.max_seq_len={model.max_seq_len} "
            "and the token after it: give more text or a shorter --model.max_seq_len"
        )
    if n_val < 2:
        raise UserError(f"the validation text has {n_val} tokens: give more text or raise --data.val_fraction")
    filled: dict[str, Any] = {"vocab_size": model.vocab_size or vocab_size}
    return dataclasses.replace(config, model=dataclasses.replace(model, **filled))


def _say_goodbye(run_dir: Path, trainer: Trainer, finished: bool, ranks: int) -> None:
    folder = shlex.quote(str(run_dir))
    if finished:
        print(f"finished; best validation loss {trainer.best_val_loss:.4f}. The run is in {folder}; let it write with")
        print(f"  python -m dist_llm.generate {folder} --prompt 'The '", flush=True)
    else:
        launcher = f"mpirun -n {ranks} " if ranks > 1 else ""
        print(
            f"stopped after step {trainer.step} of {trainer.config.train.max_steps}, checkpoint written; continue with"
        )
        print(f"  {launcher}python -m dist_llm.train --resume {folder}", flush=True)


if __name__ == "__main__":
    sys.exit(run(main))
