"""Writing tensors to a file in the format safetensors, without a second copy of them in memory.

The file is what ``safetensors.numpy.save_file`` writes. That holds Python's global lock until all is written, so that a
training step beside it would wait; here the lock is free while bytes are copied to the file or go into the checksum.

Format: https://github.com/huggingface/safetensors#format
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

DTYPES = {"<f4": "F32", "<f8": "F64", "<i8": "I64", "<i4": "I32", "<u8": "U64", "<u4": "U32", "|u1": "U8"}
ALIGNMENT = 8


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> str:
    """Write tensors by name.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        Of the types in DTYPES.
    metadata : mapping of str to str, optional

    Returns
    -------
    str
        SHA-256 of the file as it was meant to be, in hex.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    # The largest numbers first, so that all lie at multiples of their size.
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        array = tensors[name]
        start, end = end, end + array.nbytes
        header[name] = {"dtype": DTYPES[array.dtype.str], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // ALIGNMENT) * ALIGNMENT)
    blocks: list[bytes | memoryview] = [len(text).to_bytes(8, "little"), text]
    blocks += [np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8).data for name in names]
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for block in blocks:
            digest.update(block)
            file.write(block)
    return digest.hexdigest()
