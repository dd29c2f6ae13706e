"""Functions of single numbers, which LLVM turns into vector instructions where they stand in a loop."""

import numpy as np

from dist_llm.fast.compiled import compiled
from dist_llm.fast.instructions import float_of_bits

LOG2_E = np.float32(1.4426950408889634)
# ln 2 in two parts, of which the first has so few digits that its small multiples are exact (Cody and Waite 1980).
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
LEAST, MOST = np.float32(-87.0), np.float32(88.0)
LEAST_INTEGER, MOST_INTEGER = np.int32(-(2**31)), np.int32(2**31 - 1)


@compiled
def exp(x):
    """Return e^x, to 2 units in the last place; 0 below e^-87, and at most e^88.

    x = n ln 2 + r, and e^r is a polynomial (Cephes' expf); 2^n is put together from its bits.
    """
    y = min(max(x, LEAST), MOST)
    n = np.rint(y * LOG2_E)
    r = y - n * LN2_HIGH
    r -= n * LN2_LOW
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * (r * r) + r + np.float32(1)
    power = float_of_bits((np.int32(n) + np.int32(127)) << np.int32(23))
    return p * power if x >= LEAST else (np.float32(0) if x < LEAST else x)


@compiled
def in_order(bits):
    """Return the integer for the bits of a number, or the bits for an integer."""
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & MOST_INTEGER))


@compiled
def largest_of(x):
    """Return the largest number of x (n,), whichever that is if some are not numbers.

    The bits of a number above 0 are an integer of the same order, and those of one below 0 of the opposite one, but for
    the sign. Unlike a running maximum of numbers, LLVM makes vectors of one of integers.
    """
    bits = x.view(np.int32)
    largest = LEAST_INTEGER
    for i in range(len(bits)):
        integer = in_order(bits[i])
        largest = integer if integer > largest else largest
    return float_of_bits(in_order(largest))
