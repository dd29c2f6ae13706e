"""Files of tensors, compared with what the package safetensors writes and reads."""

import hashlib

import numpy as np
import pytest
import safetensors.numpy

from dist_llm.training.tensor_file import DTYPES, write_tensors


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_the_file_is_that_of_safetensors(tmp_path, metadata):
    rng = np.random.default_rng(0)
    tensors = {
        "model.b": rng.standard_normal((3, 5)).astype(np.float32),
        "model.a": rng.standard_normal((7, 2)).astype(np.float32).T,
        'ö"\\': np.float32(3.5)[np.newaxis],
        "steps": np.array([12]),
        "nothing": np.empty((0, 4), np.float32),
        "number": np.array(2.5, np.float32),
    }
    path = tmp_path / "a.safetensors"
    digest = write_tensors(path, tensors, metadata)
    dense = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()}
    assert path.read_bytes() == safetensors.numpy.save(dense, metadata)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    for name, array in safetensors.numpy.load_file(path).items():
        assert array.dtype == tensors[name].dtype
        assert np.array_equal(array, tensors[name])


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_type_is_read_back(tmp_path, dtype):
    array = np.arange(6).astype(dtype).reshape(2, 3)
    write_tensors(tmp_path / "a.safetensors", {"x": array, "y": array[:1]})
    read = safetensors.numpy.load_file(tmp_path / "a.safetensors")["x"]
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)


def test_other_types_are_refused(tmp_path):
    with pytest.raises(KeyError):
        write_tensors(tmp_path / "a.safetensors", {"x": np.array(["a"])})
