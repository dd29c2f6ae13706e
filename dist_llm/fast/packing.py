"""Arranging float32 matrices as the pairs of bfloat16 numbers that `instructions.tile_of` multiplies.

A product sums over pairs. Of a matrix whose rows are summed over, neighbours in a row make a pair; of one whose columns
are summed over, neighbours in a column. Where there is no second one, it is 0.
"""

import numpy as np

from dist_llm.fast.compiled import compiled
from dist_llm.fast.instructions import LANES, convert, interleave, pair, transpose

NOTHING = np.float32(0)


@compiled
def rounded_up(n, multiple):
    """Return the smallest multiple that is at least n."""
    return (n + multiple - 1) // multiple * multiple


@compiled
def aligned(n_rows, n_columns):
    """Return an array of that shape for pairs, at an address that is a multiple of 64 bytes."""
    memory = np.empty(n_rows * n_columns + LANES, np.uint32)
    skipped = -(memory.ctypes.data // 4) % LANES
    return memory[skipped : skipped + n_rows * n_columns].reshape(n_rows, n_columns)


@compiled
def pack_rows(x, first, row, m, n, out):
    """Make pairs along the rows of a matrix (m, n), into (at least m, at least n / 2); what is left becomes 0.

    The matrix is in the flat array `x`, from the place `first` on, its rows `row` numbers apart.
    """
    n_pairs = out.shape[1]
    source, target = x.ctypes.data, out.ctypes.data
    whole = n // (2 * LANES)
    for i in range(m):
        start = first + i * row
        for j in range(whole):
            convert(source + 4 * (start + 2 * LANES * j), target + 4 * (i * n_pairs + LANES * j))
        for j in range(LANES * whole, n // 2):
            out[i, j] = pair(x[start + 2 * j], x[start + 2 * j + 1])
        if n % 2:
            out[i, n // 2] = pair(x[start + n - 1], NOTHING)
        for j in range((n + 1) // 2, n_pairs):
            out[i, j] = 0
    out[m:] = 0


@compiled
def pack_columns(x, first, row, m, n, out):
    """Make pairs along the columns of such a matrix, into (m / 2, at least n); what is left becomes 0."""
    n_pairs = out.shape[1]
    source, target = x.ctypes.data, out.ctypes.data
    whole = n // LANES
    for i in range(m // 2):
        above = first + 2 * i * row
        for j in range(whole):
            there = source + 4 * (above + LANES * j)
            interleave(there, there + 4 * row, target + 4 * (i * n_pairs + LANES * j))
        for j in range(LANES * whole, n):
            out[i, j] = pair(x[above + j], x[above + row + j])
        for j in range(n, n_pairs):
            out[i, j] = 0
    if m % 2:
        last = first + (m - 1) * row
        for j in range(n):
            out[m // 2, j] = pair(x[last + j], NOTHING)
        for j in range(n, n_pairs):
            out[m // 2, j] = 0


@compiled
def pack_transposed(x, first, row, m, n, rows, out):
    """Make pairs along the rows of such a matrix, transposed, into (n / 2, at least m); `rows`: (at least m, n / 2)."""
    n_pairs, width = out.shape
    pack_rows(x, first, row, m, n, rows)
    whole = n_pairs // LANES * LANES
    source, target = rows.ctypes.data, out.ctypes.data
    for j in range(0, width, LANES):
        for i in range(0, whole, LANES):
            transpose(source + 4 * (j * n_pairs + i), n_pairs, target + 4 * (i * width + j), width)
    for i in range(whole, n_pairs):
        for j in range(width):
            out[i, j] = rows[j, i]
