"""Weights in safetensors files of another program's making: read as float32, one tensor at a time."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  with it, NumPy has the bfloat16 that most models come in
import numpy as np
from safetensors import SafetensorError, safe_open

from dist_llm.errors import UserError

DTYPES = ("F64", "F32", "F16", "BF16")
FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


class Weights(Mapping[str, np.ndarray]):
    """The tensors of a folder by name; each is read when it is asked for.

    Parameters
    ----------
    folder : Path
        With ``model.safetensors``, or several files and their index.
    leave_out : callable
        Whether a name is of no interest.

    Attributes
    ----------
    size : int
        Number of elements of all tensors together.

    Raises
    ------
    UserError
        A file is missing or damaged, or holds what are no floating-point numbers.
    """

    def __init__(self, folder: Path, leave_out: Callable[[str], bool]) -> None:
        self._files: dict[str, Any] = {}  # by the name of the tensor
        self.size = 0
        for path in _paths(folder):
            try:
                # It checks that the tensors lie in the file, one behind the other.
                file: Any = safe_open(path, framework="numpy")
                for name in file.keys():  # noqa: SIM118  it is no mapping
                    if leave_out(name):
                        continue
                    stored = file.get_slice(name)
                    if stored.get_dtype() not in DTYPES:
                        raise UserError(f"{path}: {name} is {stored.get_dtype()}, not one of {', '.join(DTYPES)}")
                    if name in self._files:
                        raise UserError(f"{path}: {name} is in another file too")
                    self._files[name] = file
                    self.size += math.prod(stored.get_shape())
            except (OSError, SafetensorError) as error:
                raise UserError(f"cannot read {path}: {error}") from error

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self._files[name].get_tensor(name), np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _paths(folder: Path) -> list[Path]:
    """Return the files that hold the weights of a folder."""
    if not (folder / INDEX).is_file():
        pickled = [name for name in ("pytorch_model.bin", "consolidated.00.pth") if (folder / name).exists()]
        if pickled and not (folder / FILE).is_file():
            raise UserError(f"{folder / pickled[0]} is pickled, and may run any program: convert it to safetensors")
        return [folder / FILE]
    try:
        names = sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise ValueError("a file name is none")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{folder / INDEX} is damaged ({type(error).__name__}: {error})") from error
    return [folder / name for name in names]
