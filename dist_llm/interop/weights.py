"""Tensors in safetensors files, the only form in which they are read: whoever has made them, nothing is executed."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  with it, NumPy has the bfloat16 that most models come in
import numpy as np
from safetensors import SafetensorError, safe_open

from dist_llm.config import ModelConfig
from dist_llm.errors import UserError
from dist_llm.model.llama import count_parameters, count_tensors
from dist_llm.regular_file import is_plain_name, open_regular, read_json

DTYPES = ("F64", "F32", "F16", "BF16")
FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
# Positions times elements of a head, up to which a table of the rotary embedding is small whatever the model's size.
SMALL_TABLE = 1 << 24


class TensorFile(Mapping[str, np.ndarray]):
    """The tensors of a file by name, as they are stored; each is read when it is asked for.

    Parameters
    ----------
    path : Path
    dtypes : collection of str
        What they may be, in the words of safetensors.
    leave_out : callable, optional
        Whether a name is of no interest.

    Attributes
    ----------
    path : Path
    size : int
        Number of elements of all tensors together.

    Raises
    ------
    UserError
        The file is missing or damaged, or has numbers of another type.
    """

    def __init__(
        self, path: Path, dtypes: Collection[str], leave_out: Callable[[str], bool] = lambda name: False
    ) -> None:
        self.path, self.size = path, 0
        self._names: list[str] = []
        try:
            open_regular(path).close()
            # It checks that the tensors lie in the file, one behind the other.
            file: Any = safe_open(path, framework="numpy")
            for name in file.keys():  # noqa: SIM118  it is no mapping
                if leave_out(name):
                    continue
                stored = file.get_slice(name)
                if stored.get_dtype() not in dtypes:
                    raise UserError(f"{path}: {name} is {stored.get_dtype()}, not one of {', '.join(dtypes)}")
                self._names.append(name)
                self.size += math.prod(stored.get_shape())
            self._file = file
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        except SafetensorError as error:
            raise UserError(f"cannot read {path}: {error}") from error

    def __getitem__(self, name: str) -> np.ndarray:
        array: np.ndarray = self._file.get_tensor(name)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Weights(Mapping[str, np.ndarray]):
    """The tensors of a folder of another program's making, as float32; each is read when it is asked for.

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
        self._files: dict[str, TensorFile] = {}  # by the name of the tensor
        self.size = 0
        for path in _paths(folder):
            file = TensorFile(path, DTYPES, leave_out)
            for name in file:
                if name in self._files:
                    raise UserError(f"{path}: {name} is in another file too")
                self._files[name] = file
            self.size += file.size

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self._files[name][name], np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def check_size(weights: TensorFile | Weights, config: ModelConfig, described_by: Path) -> None:
    """Compare what a configuration describes with what there is, before memory is taken for it.

    A model is no larger than the files that it is in, and so is all that is made with it.

    Raises
    ------
    UserError
        They differ, or the context is out of all proportion.
    """
    assert config.vocab_size is not None
    expected = count_parameters(config, config.vocab_size)
    if weights.size != expected:
        raise UserError(f"{described_by} describes {expected:,} parameters, and the weights are {weights.size:,}")
    if len(weights) != (tensors := count_tensors(config)):
        raise UserError(f"{described_by} describes {tensors:,} tensors, and the weights are {len(weights):,}")
    if config.max_seq_len * (config.dim // config.n_heads) > max(SMALL_TABLE, expected):
        raise UserError(f"{described_by}: a context of {config.max_seq_len:,} tokens is too long for so small a model")


def _paths(folder: Path) -> list[Path]:
    """Return the files that hold the weights of a folder."""
    if not (folder / INDEX).exists():
        pickled = [name for name in ("pytorch_model.bin", "consolidated.00.pth") if (folder / name).exists()]
        if pickled and not (folder / FILE).exists():
            raise UserError(f"{folder / pickled[0]} is pickled, and may run any program: convert it to safetensors")
        return [folder / FILE]
    try:
        names = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
        if not all(map(is_plain_name, names)):
            raise ValueError("a file name is none")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / INDEX} is damaged ({type(error).__name__}: {error})") from error
    return [folder / name for name in names]
