"""Token shards: a split's tokens on disk, read through a memory map.

All ranks of a host map the same files, so the operating system keeps one copy of a corpus in memory however
many ranks there are, and only the pages that are read. A shard is

    64 bytes    magic, version, bytes per token, number of tokens, bytes of text, SHA-256 of the tokenizer
    32 bytes    SHA-256 of those 64 bytes and the payload
    32 bytes    zeros, so that the payload begins aligned
    payload     the tokens, little endian: uint16, or uint32 for a vocabulary above 65,536; uint8 for marks of tokens

`train-00000.bin`, `train-00001.bin`, ... follow each other without a gap; a sequence may lie across two.
"""

import hashlib
import os
import struct
from bisect import bisect_right
from io import BufferedReader
from itertools import accumulate
from pathlib import Path

import numpy as np

from dist_llm.atomic import whole_file
from dist_llm.errors import UserError
from dist_llm.regular_file import open_regular
from dist_llm.text import Tokenizer

MAGIC = b"DISTLLM\x00"
VERSION = 1
FIELDS = struct.Struct("<8sIIQQ32s")
HEADER_BYTES = 128
DIGEST_BYTES = hashlib.sha256().digest_size
DTYPES: dict[int, np.dtype] = {1: np.dtype("u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4")}


def write_shard(path: Path, tokens: np.ndarray, n_bytes: int, tokenizer: Tokenizer, marks: bool = False) -> None:
    """Write a shard, in place of an older one; it is there as a whole or not at all.

    Parameters
    ----------
    path : Path
    tokens : ndarray of int32, shape (n,)
    n_bytes : int
        Bytes of text that they stand for.
    tokenizer : Tokenizer
        What made them: its fingerprint goes into the header.
    marks : bool
        They are marks of tokens instead, each 0 or 1.
    """
    dtype = DTYPES[1 if marks else 2 if tokenizer.vocab_size <= 1 << 16 else 4]
    payload = tokens.astype(dtype, copy=False)
    fields = FIELDS.pack(MAGIC, VERSION, dtype.itemsize, len(payload), n_bytes, bytes.fromhex(tokenizer.fingerprint))
    with whole_file(path) as partial, open(partial, "wb") as file:
        file.write((fields + _digest(fields, payload)).ljust(HEADER_BYTES, b"\0"))
        file.write(payload.data)


def shard_path(folder: Path, split: str, number: int) -> Path:
    """Return what a shard of a split is called."""
    return folder / f"{split}-{number:05d}.bin"


def is_whole_shard(path: Path, tokenizer_fingerprint: str) -> bool:
    """Whether a shard is there, made by this tokenizer, with every byte as it was written."""
    try:
        tokens, _, fingerprint, digest = _open_shard(path)
        return fingerprint == tokenizer_fingerprint and _digest_of_file(path, tokens) == digest
    except (OSError, UserError):
        return False


class TokenShards:
    """The tokens of a split, as one long sequence.

    Parameters
    ----------
    folder : Path
        Holds the shards.
    split : str
        ``"train"`` or ``"val"``.
    n_ids : int, optional
        How many tokens there are to the tokenizer, or what marks may be: `verify` finds those that do not exist.

    Attributes
    ----------
    n_bytes : int
        Bytes of text that the tokens stand for: what bits per byte are counted against.
    tokenizer_fingerprint : str
        Fingerprint of the tokenizer that made them, in hex.
    fingerprint : str
        Fingerprint of the tokens themselves, in hex, from the checksums in the headers.

    Raises
    ------
    UserError
        A shard is missing, cut short, damaged or of another format.
    """

    def __init__(self, folder: Path, split: str, n_ids: int | None = None) -> None:
        self._n_ids = n_ids
        self._paths = sorted(folder.glob(f"{split}-*.bin"))
        if not self._paths:
            raise UserError(f"there are no {split} shards in {folder}: delete the folder and prepare it again")
        self._shards: list[np.ndarray] = []
        self._digests: list[bytes] = []
        self.n_bytes = 0
        fingerprints = set()
        for i, path in enumerate(self._paths):
            if path != shard_path(folder, split, i):
                raise _damaged(shard_path(folder, split, i), "missing")
            tokens, n_bytes, fingerprint, digest = _open_shard(path)
            self._shards.append(tokens)
            self._digests.append(digest)
            self.n_bytes += n_bytes
            fingerprints.add(fingerprint)
        if len(fingerprints) > 1:
            raise _damaged(self._paths[0], "made by another tokenizer than the shards beside it")
        (self.tokenizer_fingerprint,) = fingerprints
        self.fingerprint = hashlib.sha256(b"".join(self._digests)).hexdigest()
        self._ends = list(accumulate(map(len, self._shards)))

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, start: int, count: int) -> np.ndarray:
        """Return `count` tokens from `start` on as int32, across the borders of files.

        Raises
        ------
        IndexError
            Not all of them exist.
        """
        if not 0 <= start <= start + count <= len(self):
            raise IndexError(f"tokens {start} to {start + count} of {len(self)}")
        tokens = np.empty(count, np.int32)
        done = 0
        shard = bisect_right(self._ends, start)
        while done < count:
            shard_start = self._ends[shard] - len(self._shards[shard])
            part = self._shards[shard][start + done - shard_start :][: count - done]
            tokens[done : done + len(part)] = part
            done += len(part)
            shard += 1
        return tokens

    def verify(self) -> None:
        """Compare every shard with its checksum, which reads all of it, and its tokens with those that there are.

        Raises
        ------
        UserError
            Naming the file that has changed.
        """
        for path, tokens, digest in zip(self._paths, self._shards, self._digests, strict=True):
            if _digest_of_file(path, tokens) != digest:
                raise _damaged(path, "its checksum is wrong")
            if self._n_ids is not None and len(tokens) and (largest := int(tokens.max())) >= self._n_ids:
                raise _damaged(path, f"it holds the token {largest}, and the last one is {self._n_ids - 1}")


def _open_shard(path: Path) -> tuple[np.ndarray, int, str, bytes]:
    try:
        with open_regular(path) as file:
            return _mapped(path, file)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _damaged(path, str(error.strerror)) from error


def _mapped(path: Path, file: BufferedReader) -> tuple[np.ndarray, int, str, bytes]:
    header = file.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        raise _damaged(path, "cut short")
    magic, version, itemsize, n_tokens, n_bytes, fingerprint = FIELDS.unpack_from(header)
    if magic != MAGIC:
        raise _damaged(path, "not a token shard")
    if version != VERSION:
        raise _damaged(path, f"format {version}, and this dist_llm reads {VERSION}")
    if itemsize not in DTYPES:
        raise _damaged(path, f"{itemsize} bytes per token")
    digest, zeros = header[FIELDS.size : FIELDS.size + DIGEST_BYTES], header[FIELDS.size + DIGEST_BYTES :]
    if any(zeros):
        raise _damaged(path, "its header has changed")
    expected, size = HEADER_BYTES + n_tokens * itemsize, os.fstat(file.fileno()).st_size
    if size != expected:
        raise _damaged(path, f"{size:,} bytes long instead of {expected:,}")
    tokens = np.memmap(file, DTYPES[itemsize], mode="r", offset=HEADER_BYTES, shape=(n_tokens,))
    return tokens, n_bytes, fingerprint.hex(), digest


def _digest_of_file(path: Path, tokens: np.ndarray) -> bytes:
    with open_regular(path) as file:
        return _digest(file.read(FIELDS.size), tokens)


def _digest(fields: bytes, payload: np.ndarray) -> bytes:
    digest = hashlib.sha256(fields)
    digest.update(payload.data)
    return digest.digest()


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"the token shard {path} cannot be used ({what}): delete {path.parent} and prepare it again")
