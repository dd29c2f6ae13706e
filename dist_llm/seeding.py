"""Random numbers as a pure function of (seed, purpose, indices).

No generator lives longer than the work it was made for, so nothing depends on what was drawn before it: a
resumed run, another number of ranks or another order of work draws exactly the same numbers.
"""

import zlib

import numpy as np


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """Derive an independent random generator.

    Parameters
    ----------
    seed : int
        The run's seed, `train.seed`.
    purpose : str
        Purpose of the numbers, e.g. ``"epoch"``; two purposes never share a stream.
    *indices : int
        Place in the run: a step, an epoch, a sequence.

    Returns
    -------
    numpy.random.Generator
    """
    # crc32 rather than hash(): Python salts the hash of a string anew in every process.
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *indices])
