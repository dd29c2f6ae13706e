"""Checkpoints: ``RUN/checkpoints/step-00000020/`` with a few files, written so that a crash never leaves half of one.

    model.safetensors      every parameter, under Hugging Face's names for a Llama (but see rope.py: the rows of q_proj
                           and k_proj are in the order of the interleaved rotary embedding)
    optimizer.safetensors  the moments of AdamW: m.<parameter> and v.<parameter>
    reduction.safetensors  only where ranks keep something of their own between steps (parallel.reduction=local)
    state.json             step, validation loss, ..., and the SHA-256 of the others and of itself

Everything random in a run is derived from (seed, purpose, step), so the step is also the state of the random numbers
and the position in the data. Only rank 0 reads and writes; nothing is ever pickled.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from dist_llm.durable import fsync
from dist_llm.errors import UserError
from dist_llm.model.params import ParamStore

FORMAT = 1
MODEL, OPTIMIZER, REDUCTION, STATE = (
    "model.safetensors", "optimizer.safetensors", "reduction.safetensors", "state.json",
)  # fmt: skip


class DamagedCheckpointError(UserError):
    """A checkpoint whose files are not what was written."""


def save_checkpoint(
    run_dir: Path,
    params: ParamStore,
    moments: Mapping[str, np.ndarray],
    reduction: Mapping[str, np.ndarray],
    state: Mapping[str, Any],
) -> Path:
    """Write a checkpoint and return its folder.

    Parameters
    ----------
    run_dir : Path
    params : ParamStore
    moments : mapping of str to ndarray of shape (P,)
        The optimizer's, laid out as the parameters.
    reduction : mapping of str to ndarray
        What else training needs to go on; may be empty.
    state : mapping
        JSON values; ``state["step"]``, the number of finished steps, names the folder.

    Raises
    ------
    UserError
        The disk is full or cannot be written to; the checkpoints that are there are untouched.
    """
    folder = run_dir / "checkpoints" / f"step-{state['step']:08d}"
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        # "pt" is what other programs expect of a file of weights; it names no dependency on PyTorch.
        save_file({p.name: p.data for p in params}, temporary / MODEL, metadata={"format": "pt"})
        by_name = {f"{k}.{p.name}": array[p.slice].reshape(p.shape) for k, array in moments.items() for p in params}
        save_file(by_name, temporary / OPTIMIZER)
        names = [MODEL, OPTIMIZER]
        if reduction:
            save_file(dict(reduction), temporary / REDUCTION)
            names.append(REDUCTION)
        document = dict(state) | {"format": FORMAT, "sha256": {name: _sha256(temporary / name) for name in names}}
        document["sha256"][STATE] = _digest(document)
        (temporary / STATE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        for name in names:  # safetensors makes its files readable by their owner alone
            shutil.copymode(temporary / STATE, temporary / name)
        for path in (*temporary.iterdir(), temporary):
            fsync(path)
        temporary.rename(folder)
        fsync(folder.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(f"cannot write the checkpoint {folder}: {error}") from error
    return folder


def read_state(folder: Path) -> dict[str, Any]:
    """Return the contents of a checkpoint's state.json.

    Raises
    ------
    DamagedCheckpointError
        It is missing, truncated or altered.
    """
    try:
        document = json.loads((folder / STATE).read_text(encoding="utf-8"))
        written = document["sha256"].pop(STATE)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(f"{folder} is damaged: {STATE} is missing or truncated") from error
    if document.get("format") != FORMAT:
        raise DamagedCheckpointError(f"{folder}: format {document.get('format')}, this version reads {FORMAT}")
    if written != _digest(document):
        raise DamagedCheckpointError(f"{folder} is damaged: {STATE} was altered")
    return document


def verify_checkpoint(folder: Path) -> dict[str, Any]:
    """Compare a checkpoint's files with their checksums and return its state.

    Raises
    ------
    DamagedCheckpointError
        Naming the folder and the file.
    """
    state = read_state(folder)
    for name in (MODEL, OPTIMIZER, *({REDUCTION} & state["sha256"].keys())):
        if not (folder / name).is_file():
            raise DamagedCheckpointError(f"{folder} is damaged: {name} is missing")
        if _sha256(folder / name) != state["sha256"].get(name):
            raise DamagedCheckpointError(f"{folder} is damaged: {name} is truncated or altered")
    return state


def load_checkpoint(folder: Path, params: ParamStore) -> dict[str, Any]:
    """Fill the parameters from a verified checkpoint.

    Returns
    -------
    dict
        The state it was saved with.

    Raises
    ------
    DamagedCheckpointError
        As `verify_checkpoint`.
    UserError
        Its tensors are not those of the model.
    """
    state = verify_checkpoint(folder)
    tensors = load_file(folder / MODEL)
    expected = {p.name: p.shape for p in params}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected:
        differing = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
        name = differing[0]
        raise UserError(
            f"{folder} is of another model: {name} is {found.get(name, 'missing')}, not {expected.get(name, 'there')}"
        )
    for param in params:
        param.data[...] = tensors[param.name]
    return state


def load_training_state(folder: Path, params: ParamStore) -> dict[str, np.ndarray]:
    """Return what a verified checkpoint holds beside the parameters, as `save_checkpoint` was given it.

    Returns
    -------
    dict of str to ndarray
        The moments ``m`` and ``v``, of shape (P,), and what the reduction saved, under ``reduction.<name>``.
    """
    tensors = load_file(folder / OPTIMIZER)
    saved = {key: np.empty_like(params.data) for key in ("m", "v")}
    for key, array in saved.items():
        for param in params:
            array[param.slice] = tensors[f"{key}.{param.name}"].ravel()
    if (folder / REDUCTION).exists():
        saved |= {f"reduction.{name}": array for name, array in load_file(folder / REDUCTION).items()}
    return saved


def list_checkpoints(run_dir: Path) -> list[Path]:
    """Return the folders of a run's finished checkpoints, by their steps; others beside them are not looked at."""
    folders = (run_dir / "checkpoints").glob("step-*")
    return sorted((f for f in folders if f.name.removeprefix("step-").isdigit()), key=_step)


def is_checkpoint(path: Path) -> bool:
    """Whether a path is one of a run's checkpoints rather than a run."""
    path = path.resolve()
    return path.parent.name == "checkpoints" and (path.parent.parent / "config.toml").exists()


def val_loss(folder: Path) -> float:
    """Return a checkpoint's validation loss; infinity if none was measured there, or if it is damaged."""
    try:
        loss = read_state(folder).get("val_loss")
    except DamagedCheckpointError:
        return math.inf
    return math.inf if loss is None or math.isnan(loss) else loss


def find_checkpoint(run: Path, which: str = "last") -> Path:
    """Return the folder of a verified checkpoint.

    Parameters
    ----------
    run : Path
        A run folder, or one checkpoint inside of it.
    which : {"last", "best"}
        Of a run folder: the latest, or the one with the lowest validation loss.

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
        raise UserError(f"{run} holds no checkpoint" if run.is_dir() else f"there is no run folder {run}")
    chosen = folders[-1]
    try:
        if which == "best":
            chosen = min(reversed(folders), key=val_loss)
        verify_checkpoint(chosen)
    except DamagedCheckpointError as error:
        good = next((f for f in reversed(folders) if _is_good(f)), None)
        offer = f"the last good one is {good}: name it instead of {run}" if good else "no other checkpoint is good"
        raise DamagedCheckpointError(f"{error}; {offer}") from error
    return chosen


def prune_checkpoints(run_dir: Path, keep: int) -> None:
    """Remove all checkpoints but the last `keep` and the one with the lowest validation loss."""
    folders = list_checkpoints(run_dir)
    kept = {*folders[-keep:], min(reversed(folders), key=val_loss)}
    for folder in folders:
        if folder not in kept:
            # Renamed first: a crash in the middle must not leave something that looks like a checkpoint.
            shutil.rmtree(folder.rename(folder.with_name(f".{folder.name}.tmp")))


def set_aside_later_checkpoints(run_dir: Path, step: int) -> None:
    """Rename the checkpoints after `step` to ``abandoned-...``: a run continued from there will make others.

    Otherwise they would be taken for its latest ones. They may be damaged, and are the user's to delete.
    """
    for folder in list_checkpoints(run_dir):
        if _step(folder) > step:
            aside = folder.with_name(f"abandoned-{folder.name}")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _is_good(folder: Path) -> bool:
    try:
        verify_checkpoint(folder)
    except DamagedCheckpointError:
        return False
    return True


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
