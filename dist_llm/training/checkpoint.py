"""Checkpoints: ``RUN/checkpoints/step-00000020/`` with a few files, written so that a crash never leaves half of one.

    model.safetensors      every parameter, as Hugging Face's Llama has it; the average, where the run has one
    config.json, ...       what `from_pretrained` reads beside it, so that the folder is a model to Hugging Face too
    tokenizer.json
    optimizer.safetensors  the optimizer's state, in the order of memory; without it, a checkpoint is weights alone
    trained_weights.safetensors   where optim.average is on: what is trained on, of which the model is the average
    strategy.safetensors   only where ranks keep something of their own between steps (parallel.strategy=local)
    state.json             step, validation loss, ..., and the SHA-256 of the others and of itself

What is in the files is what the parts' ``state_dict()`` returned. Everything random in a run is derived from (seed,
purpose, step), so the step is also the state of the random numbers and the position in the data. Only rank 0 reads and
writes; nothing is ever pickled.
"""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dist_llm.atomic import remove, sha256, whole_folder, write_text
from dist_llm.config import ModelConfig
from dist_llm.errors import UserError
from dist_llm.interop.weights import TensorFile
from dist_llm.model.llama import Llama, half_split
from dist_llm.training.checkpoint_state import (
    FORMAT,
    INTERLEAVED,
    STATE,
    DamagedCheckpointError,
    digest_of,
    read_state,
    val_loss,
)
from dist_llm.training.tensor_file import write_tensors

CHECKPOINTS = "checkpoints"
SUFFIX = ".safetensors"
RENAMED = {"reduction": "strategy"}  # as older versions called it
MODEL = f"model{SUFFIX}"
DTYPES = {MODEL: ("F32",)}  # of the tensors in a file; in the others:
OTHER_DTYPES = ("F32", "F64", "I64")
STEP = re.compile(r"step-[0-9]{1,15}")


def save_checkpoint(
    run_dir: Path,
    parts: Mapping[str, Mapping[str, np.ndarray]],
    state: Mapping[str, Any],
    texts: Mapping[str, str] | None = None,
) -> Path:
    """Write a checkpoint and return its folder; one of this step that is there already and whole counts as written.

    Parameters
    ----------
    run_dir : Path
    parts : mapping
        ``parts["model"]``, ``parts["optimizer"]``, ...: arrays by name, each part for a file of its own; those without
        arrays are left out.
    state : mapping
        JSON values; ``state["step"]``, the number of finished steps, names the folder.
    texts : mapping of str to str, optional
        Other files, by name.

    Raises
    ------
    UserError
        The disk is full or cannot be written to; the checkpoints that are there are untouched.
    """
    folder = checkpoint_folder(run_dir, state["step"])
    try:
        if folder.exists():
            if _is_good(folder):
                return folder
            set_aside(folder)
        with whole_folder(folder) as temporary:
            digests = {}
            for name, text in (texts or {}).items():
                (temporary / name).write_text(text, encoding="utf-8")
                digests[name] = sha256(temporary / name)
            for part, arrays in parts.items():
                if arrays:
                    # "pt" is what other programs expect of a file of weights; it names no dependency on PyTorch.
                    metadata = {"format": "pt"} if part == "model" else None
                    name = f"{part}{SUFFIX}"
                    digests[name] = write_tensors(temporary / name, arrays, metadata)
            document = dict(state) | {"format": FORMAT, "sha256": dict(sorted(digests.items()))}
            (temporary / STATE).write_text(_with_digest(document), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the checkpoint {folder}: {error}") from error
    return folder


def record_val_loss(run_dir: Path, step: int, loss: float) -> None:
    """Write the validation loss after a step, in nats per token, into its checkpoint.

    Raises
    ------
    DamagedCheckpointError
        There is none, or it is damaged.
    OSError
        It cannot be written; it is as it was.
    """
    folder = checkpoint_folder(run_dir, step)
    write_text(folder / STATE, _with_digest(read_state(folder) | {"val_loss": loss}))


def verify_checkpoint(folder: Path) -> dict[str, Any]:
    """Compare a checkpoint's files with their checksums and return its state.

    Raises
    ------
    DamagedCheckpointError
        Naming the folder and the file.
    """
    state = read_state(folder)
    for name, digest in ({MODEL: None} | state["sha256"]).items():
        try:
            found = sha256(folder / name)
        except FileNotFoundError:
            raise DamagedCheckpointError(f"{folder} is damaged: {name} is missing") from None
        except OSError as error:
            raise DamagedCheckpointError(f"{folder} is damaged: cannot read {name}: {error.strerror}") from error
        if found != digest:
            raise DamagedCheckpointError(f"{folder} is damaged: {name} is truncated or altered")
    return state


def load_checkpoint(
    folder: Path, config: ModelConfig, only: Collection[str] | None = None
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Read a checkpoint, after verifying it.

    Parameters
    ----------
    config : ModelConfig
        That of its model.
    only : collection of str, optional
        The parts to read; all of them unless told.

    Returns
    -------
    parts, state
        What was given to `save_checkpoint`.

    Raises
    ------
    DamagedCheckpointError
        As `verify_checkpoint`.
    """
    state = verify_checkpoint(folder)
    names = [name.removesuffix(SUFFIX) for name in state["sha256"] if name.endswith(SUFFIX)]
    files = {RENAMED.get(n, n): open_tensors(folder, f"{n}{SUFFIX}") for n in names if only is None or n in only}
    parts = {name: dict(file) for name, file in files.items()}
    if state["format"] == INTERLEAVED and "model" in parts:
        parts["model"] = half_split(parts["model"], config)
    return parts, state


def open_tensors(folder: Path, name: str = MODEL) -> TensorFile:
    """Open a file of a checkpoint's tensors, which are then read when they are asked for.

    Raises
    ------
    DamagedCheckpointError
        It is none, or its numbers are of a type that no checkpoint has.
    """
    try:
        return TensorFile(folder / name, DTYPES.get(name, OTHER_DTYPES))
    except UserError as error:
        raise DamagedCheckpointError(str(error)) from error


def load_weights(folder: Path, model: Llama) -> dict[str, Any]:
    """Fill a model's parameters from a checkpoint, and return its state.

    Raises
    ------
    DamagedCheckpointError
        As `verify_checkpoint`.
    UserError
        Its tensors are not those of the model.
    """
    parts, state = load_checkpoint(folder, model.config, ("model",))
    try:
        model.load_state_dict(parts["model"])
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    return state


def list_checkpoints(run_dir: Path) -> list[Path]:
    """Return the folders of a run's finished checkpoints, by their steps; others beside them are not looked at."""
    folders = (run_dir / CHECKPOINTS).glob("step-*")
    return sorted((f for f in folders if STEP.fullmatch(f.name) and f.is_dir() and not f.is_symlink()), key=step_of)


def is_checkpoint(path: Path) -> bool:
    """Whether a path is one of a run's checkpoints rather than a run."""
    path = path.resolve()
    return path.parent.name == CHECKPOINTS and (path.parent.parent / "config.toml").exists()


def find_checkpoint(run: Path, which: str = "last") -> Path:
    """Return the folder of a verified checkpoint.

    Parameters
    ----------
    run : Path
        A run folder, or one checkpoint inside of it.
    which : {"last", "best"}
        Which checkpoint of a run folder: the latest, or the one with the lowest validation loss.

    Raises
    ------
    UserError
        There is none.
    DamagedCheckpointError
        Naming what is damaged, and offering the last good one.
    """
    if is_checkpoint(run):
        if not run.exists():
            raise UserError(f"there is no checkpoint {run}")
        verify_checkpoint(run)
        return run
    folders = list_checkpoints(run)
    if not folders:
        raise UserError(
            f"{run} holds no checkpoint: a run that ended before its first one begins anew, without --resume"
            if run.is_dir()
            else f"there is no run folder {run}"
        )
    chosen = folders[-1]
    try:
        if which == "best":
            for folder in folders:  # one that cannot be read may be the best
                read_state(folder)
            chosen = min(reversed(folders), key=val_loss)
        verify_checkpoint(chosen)
    except (DamagedCheckpointError, OSError) as error:
        if not all(folder.exists() for folder in folders):  # the run goes on, and has removed one meanwhile
            return find_checkpoint(run, which)
        if isinstance(error, OSError):
            raise
        good = [folder for folder in folders if _is_good(folder)]
        offer = "no other checkpoint is good"
        if good:
            other = min(reversed(good), key=val_loss) if which == "best" else good[-1]
            offer = f"the {which} good one is {other}: name it instead of {run}"
        raise DamagedCheckpointError(f"{error}; {offer}") from error
    return chosen


def set_aside(folder: Path) -> None:
    """Rename a checkpoint to ``abandoned-...``, in place of an older one of its step: it is the user's to delete."""
    aside = folder.with_name(f"abandoned-{folder.name}")
    remove(aside)
    folder.rename(aside)


def checkpoint_folder(run_dir: Path, step: int) -> Path:
    """Return the folder of the checkpoint after a step."""
    return run_dir / CHECKPOINTS / f"step-{step:08d}"


def step_of(folder: Path) -> int:
    """Return the step that a checkpoint is named after."""
    return int(folder.name.removeprefix("step-"))


def _is_good(folder: Path) -> bool:
    try:
        verify_checkpoint(folder)
    except (DamagedCheckpointError, FileNotFoundError):
        return False
    return True


def _with_digest(document: dict[str, Any]) -> str:
    """Return the text of state.json, given all that is in it but its own checksum."""
    digests = document["sha256"] | {STATE: digest_of(document)}
    return json.dumps(document | {"sha256": digests}, indent=1) + "\n"
