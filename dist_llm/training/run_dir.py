"""The run folder: where a run writes, and how a run is found again."""

import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dist_llm.atomic import write_bytes
from dist_llm.config import SECTIONS, Config, ModelConfig
from dist_llm.errors import UserError
from dist_llm.interop import huggingface
from dist_llm.interop.weights import check_size
from dist_llm.settings import parse_toml, read_configuration
from dist_llm.training.checkpoint import is_checkpoint, open_tensors
from dist_llm.training.checkpoint_state import read_state

CONFIG = "config.toml"
CHECKSUM = b"# SHA-256 of what follows: "
FOLDERS = ("checkpoints", "samples")  # where a run writes, beside its own folder


def check_run_dir_is_free(run_dir: str | None) -> None:
    """Refuse a folder that has something in it.

    Raises
    ------
    UserError
    """
    if run_dir is None:
        return
    folder = Path(run_dir)
    if (folder / CONFIG).exists():
        raise UserError(
            f"{folder} already holds a run: --resume {folder} continues it, another --train.run_dir starts anew"
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not an empty folder: choose another --train.run_dir")


def create_run_dir(run_dir: str | None) -> Path:
    """Create the run folder, or the next free ``runs/run-001`` if none is named, and return it.

    Raises
    ------
    UserError
        It cannot be created or is not empty.
    """
    check_run_dir_is_free(run_dir)
    try:
        if run_dir is None:
            return next_numbered("run")
        folder = Path(run_dir)
        folder.mkdir(parents=True, exist_ok=True)
        # Of two runs that start at the same time, the one that makes this file has the folder.
        (folder / CONFIG).touch(exist_ok=False)
        return folder
    except OSError as error:
        raise UserError(f"cannot create the run folder: {error}; choose another with --train.run_dir") from error


def next_numbered(kind: str) -> Path:
    """Create and return the next free folder of a kind: ``runs/run-001``, ``runs/run-002``, ..."""
    for number in itertools.count(1):
        folder = Path("runs") / f"{kind}-{number:03d}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError  # there is always a next number


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold a run, so that no other process can continue it at the same time; a process that dies lets go of it.

    Raises
    ------
    UserError
        Another process holds it, or it would write through a link to somewhere else.
    """
    for folder in FOLDERS:
        if (run_dir / folder).is_symlink():
            raise UserError(
                f"{run_dir / folder} is a link, and a run writes nothing outside of its folder: put in its place what "
                "it leads to, or link the whole run folder"
            )
    lock = run_dir / ".lock"
    try:
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise UserError(f"cannot lock the run folder with {lock} ({error.strerror}): remove that file") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f"another process is training the run {run_dir}: wait for its end, or end it") from None
    finally:
        os.close(descriptor)


def write_config(run_dir: Path, config: Config) -> None:
    """Write the configuration of a run, below a line with its checksum: half of one is a configuration too."""
    text = config.to_toml().encode()
    write_bytes(run_dir / CONFIG, _checksum_line(text) + text)


def read_config(run_dir: Path) -> Config:
    """Return what the configuration of a run says, whoever has written it.

    Raises
    ------
    UserError
        The folder is no run.
    """
    return _parsed(run_dir / CONFIG, _content(run_dir))


def config_of(checkpoint: Path) -> Config:
    """Return the configuration of a checkpoint's run, as it was written and compared with what the checkpoint knows.

    Raises
    ------
    UserError
        It is truncated or altered, or that of another run, or describes another model than the checkpoint's.
    """
    run_dir = run_dir_of(checkpoint)
    path, content = run_dir / CONFIG, _content(run_dir)
    first, _, rest = content.partition(b"\n")
    # Older versions wrote no checksum; at least, the first and the last section are there.
    is_older = content.startswith(b"[model]\n") and b"\n[log]\n" in content and content.endswith(b"\n")
    if _checksum_line(rest) != first + b"\n" and not is_older:
        raise UserError(
            f"{path} is not as it was written, but truncated or edited: options such as --train.max_steps=600 change "
            "settings; if the edit is yours, delete the first line"
        )
    config = _parsed(path, content)
    for name, was in _recorded(checkpoint).items():
        section, key = name.split(".")
        now = getattr(_comparable(config.model) if section == "model" else config.train, key)
        if now != was:
            raise UserError(f"{path} says {name}={now}, and {checkpoint} was trained with {was}: correct the file")
    if config.model.vocab_size is None:
        raise UserError(f"{path} does not say model.vocab_size: it is no longer the configuration of a run")
    check_size(open_tensors(checkpoint), config.model, path)
    return config


def _content(run_dir: Path) -> bytes:
    if not (run_dir / CONFIG).exists():
        raise UserError(f"{run_dir} is not a run folder: it has no {CONFIG}")
    return read_configuration(run_dir / CONFIG)


def _parsed(path: Path, content: bytes) -> Config:
    document = parse_toml(path, content)
    try:
        return Config().replace(document).validated()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _checksum_line(text: bytes) -> bytes:
    return CHECKSUM + hashlib.sha256(text).hexdigest().encode() + b"\n"


def _recorded(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint knows of the configuration, by dotted names: what must not change when it is resumed."""
    state = read_state(checkpoint)
    recorded: dict[str, Any] = {"train.seed": state["seed"]} if "seed" in state else {}
    if huggingface.CONFIG in state["sha256"]:
        model = _comparable(huggingface.read_config(checkpoint))
        recorded |= {f"model.{key}": getattr(model, key) for key in SECTIONS["model"]}
        if state["step"] and "tokens" in state:
            recorded["train.batch_size"] = state["tokens"] / state["step"] / model.max_seq_len
    return recorded


def _comparable(model: ModelConfig) -> ModelConfig:
    """Return a shape without what the form of Hugging Face does not hold, or says in another way."""
    same: dict[str, Any] = {"dropout": 0.0, "n_kv_heads": model.n_kv_heads or model.n_heads}
    if model.rope_scaling_factor == 1:
        same |= {
            key: getattr(ModelConfig, key) for key in SECTIONS["model"] if key in huggingface.ROPE_SCALING.values()
        }
    return dataclasses.replace(model, **same)


def run_dir_of(path: Path) -> Path:
    """Return the run folder of a run folder or of one of its checkpoints."""
    if not is_checkpoint(path):
        return path
    return path.parent.parent if path.parent.name == "checkpoints" else path.resolve().parent.parent
