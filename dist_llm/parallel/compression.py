"""Compression: an all-reduce that sends 16, 8 or 4 bits per number, and keeps what is lost by it for the next one.

MPI adds float32, not these formats, so the sum is made by hand in two rounds, as bandwidth-optimal all-reduces do it:
every rank receives its shard of all ranks' arrays, adds them in float32, and sends the sum to all. What is sent is
encoded in both rounds, and all ranks decode the same bytes: they end with the same numbers.

float16, int8 and int4 have a short range: each block of 1024 numbers is divided by its largest magnitude first, which
travels along. bfloat16 has float32's range and needs none.

Error feedback (Seide et al. 2014; Karimireddy et al. 2019, arXiv 1901.09847): what rounding took away is added to what
is sent the next time, so nothing is lost for good. A rank keeps two such remainders: of its own array, and of the sums
of its shard.
"""

import numpy as np

from dist_llm.parallel.comm import Comm
from dist_llm.partition import consecutive, partition, sizes

BLOCK = 1024
BITS = {"float32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "int4": 4}
LARGEST = {"int8": 127, "int4": 7}


def encode(x: np.ndarray, dtype: str) -> np.ndarray:
    """Turn float32 (n,) into bytes, uint8 of `encoded_bytes(n, dtype)`."""
    if dtype == "float32":
        return np.ascontiguousarray(x).view(np.uint8)
    if dtype == "bfloat16":
        # The upper half of a float32, after adding half of what is cut off: round to nearest, ties to even.
        bits = np.ascontiguousarray(x).view(np.uint32)
        return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16).view(np.uint8)
    blocks = np.zeros((-(-x.size // BLOCK), BLOCK), np.float32)
    blocks.ravel()[: x.size] = x
    scales = np.abs(blocks).max(axis=1)
    scales[scales == 0] = 1
    if dtype == "float16":
        numbers = (blocks / scales[:, None]).astype(np.float16)
    else:
        numbers = np.rint(blocks * (LARGEST[dtype] / scales[:, None])).astype(np.int8)
    numbers = numbers.ravel()[: x.size]
    if dtype == "int4":  # two in a byte, -7 to 7 as 1 to 15
        numbers = np.pad(numbers + np.int8(8), (0, x.size % 2))
        numbers = numbers[::2] | numbers[1::2] << 4
    return np.concatenate([scales.view(np.uint8), numbers.view(np.uint8)])


def decode(encoded: np.ndarray, n: int, dtype: str) -> np.ndarray:
    """Turn the bytes of `encode` back into float32 (n,)."""
    if dtype == "float32":
        return encoded.view(np.float32)
    if dtype == "bfloat16":
        return (encoded.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    n_blocks = -(-n // BLOCK)
    scales = np.frombuffer(encoded[: 4 * n_blocks].tobytes(), np.float32)
    payload = encoded[4 * n_blocks :].tobytes()
    numbers: np.ndarray
    if dtype == "int4":
        pairs = np.frombuffer(payload, np.uint8)
        numbers = np.stack([pairs & 15, pairs >> 4], axis=1).ravel()[:n].astype(np.int8) - np.int8(8)
    else:
        numbers = np.frombuffer(payload, np.float16 if dtype == "float16" else np.int8)
    unit = scales if dtype == "float16" else scales / np.float32(LARGEST[dtype])
    return numbers.astype(np.float32) * np.repeat(unit, BLOCK)[:n]


def encoded_bytes(n: int, dtype: str) -> int:
    """Return how many bytes n numbers become."""
    numbers = -(-n * BITS[dtype] // 8)
    return numbers if dtype in ("float32", "bfloat16") else 4 * -(-n // BLOCK) + numbers


class CompressedAllReduce:
    """All-reduce in a format of fewer bits.

    Parameters
    ----------
    comm : Comm
    size : int
        Length of the arrays.
    dtype : str
        One of BITS.
    error_feedback : bool

    Attributes
    ----------
    remainder : ndarray of shape (size,)
        Remainder of this rank's arrays that has not been sent yet; empty without error feedback.
    shard_remainder : ndarray
        The same of the sums of this rank's shard.
    """

    def __init__(self, comm: Comm, size: int, dtype: str, error_feedback: bool) -> None:
        self._comm, self._dtype, self._feedback = comm, dtype, error_feedback
        self._shards = partition(size, comm.size)
        self._byte_shards = consecutive(encoded_bytes(n, dtype) for n in sizes(self._shards))
        self._mine = self._shards[comm.rank]
        self.remainder = np.zeros(size if error_feedback else 0, np.float32)
        self.shard_remainder = np.zeros(self._mine.stop - self._mine.start if error_feedback else 0, np.float32)

    def sum_(self, array: np.ndarray) -> None:
        """Replace `array`, float32 of shape (size,), by the sum over ranks, the same on all."""
        if self._feedback:
            array += self.remainder
        sent = np.empty(self._byte_shards[-1].stop, np.uint8)
        for shard, byte_shard in zip(self._shards, self._byte_shards, strict=True):
            sent[byte_shard] = encode(array[shard], self._dtype)
            if self._feedback:
                self.remainder[shard] = array[shard] - self._decoded(sent, shard, byte_shard)
        n = self._mine.stop - self._mine.start
        total = np.zeros(n, np.float32)
        for encoded in self._comm.alltoallv(sent, self._byte_shards):
            total += decode(encoded, n, self._dtype)
        if self._feedback:
            total += self.shard_remainder
        mine = self._byte_shards[self._comm.rank]
        sent[mine] = encode(total, self._dtype)
        if self._feedback:
            self.shard_remainder[...] = total - self._decoded(sent, self._mine, mine)
        self._comm.allgatherv_(sent, self._byte_shards)
        for shard, byte_shard in zip(self._shards, self._byte_shards, strict=True):
            array[shard] = self._decoded(sent, shard, byte_shard)

    def _decoded(self, encoded: np.ndarray, shard: slice, byte_shard: slice) -> np.ndarray:
        # A copy: a shard of a byte array need not begin where a number may.
        return decode(encoded[byte_shard].copy(), shard.stop - shard.start, self._dtype)
