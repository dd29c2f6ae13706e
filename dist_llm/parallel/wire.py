"""Fewer bits on the wire: an all-reduce that sends 16 or 8 bits per number, and what is lost by it kept for the next.

MPI adds float32, not these formats, so the sum is made by hand in two rounds, as bandwidth-optimal all-reduces do it:
every rank receives its part of all ranks' arrays, adds them in float32, and sends the sum to all. What is sent is
encoded in both rounds, and all ranks decode the same bytes: they end with the same numbers.

float16 and int8 have a short range: each block of 1024 numbers is divided by its largest magnitude first, which
travels along. bfloat16 has float32's range and needs none.

Error feedback (Seide et al. 2014; Karimireddy et al. 2019, arXiv 1901.09847): what rounding took away is added to what
is sent the next time, so nothing is lost for good. A rank keeps two such remainders: of its own array, and of the sums
of its part.
"""

from collections.abc import Callable

import numpy as np

from dist_llm.parallel.comm import Comm
from dist_llm.shares import consecutive, shares, sizes

BLOCK = 1024
WIRE_FORMATS = ("float32", "float16", "bfloat16", "int8")


def encode(x: np.ndarray, wire: str) -> np.ndarray:
    """Turn float32 (n,) into bytes, uint8 of `encoded_bytes(n, wire)`."""
    if wire == "float32":
        return np.ascontiguousarray(x).view(np.uint8)
    if wire == "bfloat16":
        # The upper half of a float32, after adding half of what is cut off: round to nearest, ties to even.
        bits = np.ascontiguousarray(x).view(np.uint32)
        return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16).view(np.uint8)
    blocks = np.zeros((-(-x.size // BLOCK), BLOCK), np.float32)
    blocks.ravel()[: x.size] = x
    scales = np.abs(blocks).max(axis=1)
    scales[scales == 0] = 1
    if wire == "float16":
        numbers = (blocks / scales[:, None]).astype(np.float16)
    else:
        numbers = np.rint(blocks * (127 / scales[:, None])).astype(np.int8)
    return np.concatenate([scales.view(np.uint8), numbers.ravel()[: x.size].view(np.uint8)])


def decode(encoded: np.ndarray, n: int, wire: str) -> np.ndarray:
    """Turn the bytes of `encode` back into float32 (n,)."""
    if wire == "float32":
        return encoded.view(np.float32)
    if wire == "bfloat16":
        return (encoded.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    n_blocks = -(-n // BLOCK)
    scales = np.frombuffer(encoded[: 4 * n_blocks].tobytes(), np.float32)
    numbers = np.frombuffer(encoded[4 * n_blocks :].tobytes(), np.float16 if wire == "float16" else np.int8)
    unit = scales if wire == "float16" else scales / np.float32(127)
    return numbers.astype(np.float32) * np.repeat(unit, BLOCK)[:n]


def encoded_bytes(n: int, wire: str) -> int:
    """Return how many bytes n numbers become."""
    if wire in ("float32", "bfloat16"):
        return n * (4 if wire == "float32" else 2)
    return 4 * -(-n // BLOCK) + n * (2 if wire == "float16" else 1)


class CompressedAllReduce:
    """All-reduce in a wire format.

    Parameters
    ----------
    comm : Comm
    size : int
        Of the arrays.
    wire : str
        One of WIRE_FORMATS.
    error_feedback : bool

    Attributes
    ----------
    remainder : ndarray of shape (size,)
        Of this rank's arrays, what has not been sent yet; stays zero without error feedback.
    part_remainder : ndarray
        The same of the sums of this rank's part.
    bytes_sent : int
        By this rank in one all-reduce.
    """

    def __init__(self, comm: Comm, size: int, wire: str, error_feedback: bool) -> None:
        self._comm, self._wire, self._feedback = comm, wire, error_feedback
        self._parts = shares(size, comm.size)
        self._byte_parts = consecutive(encoded_bytes(n, wire) for n in sizes(self._parts))
        self._mine = self._parts[comm.rank]
        self.remainder = np.zeros(size if error_feedback else 0, np.float32)
        self.part_remainder = np.zeros(self._mine.stop - self._mine.start if error_feedback else 0, np.float32)
        own_bytes = encoded_bytes(self._mine.stop - self._mine.start, wire)
        self.bytes_sent = self._byte_parts[-1].stop - own_bytes + (comm.size - 1) * own_bytes

    def sum_(self, array: np.ndarray, communicate: Callable[[Callable[[], None]], None]) -> None:
        """Replace `array` by the sum over ranks, the same on all.

        Parameters
        ----------
        array : float32 ndarray of shape (size,)
        communicate : callable
            Is given the functions that do nothing but send and receive, to call and time them.
        """
        if self._feedback:
            array += self.remainder
        sent = np.empty(self._byte_parts[-1].stop, np.uint8)
        for part, byte_part in zip(self._parts, self._byte_parts, strict=True):
            sent[byte_part] = encode(array[part], self._wire)
            if self._feedback:
                self.remainder[part] = array[part] - self._decoded(sent, part, byte_part)
        received: list[np.ndarray] = []
        communicate(lambda: received.append(self._comm.all_to_all(sent, self._byte_parts)))
        n = self._mine.stop - self._mine.start
        total = np.zeros(n, np.float32)
        for encoded in received[0]:
            total += decode(encoded, n, self._wire)
        if self._feedback:
            total += self.part_remainder
        mine = self._byte_parts[self._comm.rank]
        sent[mine] = encode(total, self._wire)
        if self._feedback:
            self.part_remainder[...] = total - self._decoded(sent, self._mine, mine)
        communicate(lambda: self._comm.all_gather_(sent, self._byte_parts))
        for part, byte_part in zip(self._parts, self._byte_parts, strict=True):
            array[part] = self._decoded(sent, part, byte_part)

    def _decoded(self, encoded: np.ndarray, part: slice, byte_part: slice) -> np.ndarray:
        # A copy: a part of a byte array need not begin where a number may.
        return decode(encoded[byte_part].copy(), part.stop - part.start, self._wire)
