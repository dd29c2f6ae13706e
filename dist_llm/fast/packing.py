"""Arranging float32 matrices as the words that `instructions.tile_of` multiplies: bfloat16 pairs, or single numbers.

A product sums over words. Of a matrix whose rows are summed over, neighbours in a row make a pair; of one whose columns
are summed over, neighbours in a column. Where there is no second one, it is 0. What kind of words the array says that
they go into.
"""

import numpy as np

from dist_llm.fast.compiled import compiled
from dist_llm.fast.instructions import LANES, convert, interleave, numbers_in_word, transpose, word_of

NOTHING = np.float32(0)


@compiled
def rounded_up(n, multiple):
    """Return the smallest multiple that is at least n."""
    return (n + multiple - 1) // multiple * multiple


@compiled
def words_of(n, kind):
    """Return how many words n numbers take."""
    return (n + numbers_in_word(kind) - 1) // numbers_in_word(kind)


@compiled
def aligned(n_rows, n_columns, kind):
    """Return an array of that shape for words, at an address that is a multiple of 64 bytes."""
    memory = np.empty(n_rows * n_columns + LANES, kind.dtype)
    skipped = -(memory.ctypes.data // 4) % LANES
    return memory[skipped : skipped + n_rows * n_columns].reshape(n_rows, n_columns)


@compiled
def pack_rows(x, first, row, m, n, out):
    """Make words along the rows of a matrix (m, n), into (at least m, at least n's words); what is left becomes 0.

    The matrix is in the flat array `x`, from the place `first` on, its rows `row` numbers apart.
    """
    n_words, per = out.shape[1], numbers_in_word(out)
    source = x.ctypes.data
    whole = n // (per * LANES)
    for i in range(m):
        start = first + i * row
        for j in range(whole):
            convert(source + 4 * (start + per * LANES * j), out, i * n_words + LANES * j)
        for j in range(LANES * whole, n // per):
            out[i, j] = word_of(x[start + per * j], x[start + per * j + per - 1], out)
        if n % per:
            out[i, n // per] = word_of(x[start + n - 1], NOTHING, out)
        for j in range(words_of(n, out), n_words):
            out[i, j] = 0
    out[m:] = 0


@compiled
def pack_columns(x, first, row, m, n, out):
    """Make words along the columns of such a matrix, into (m's words, at least n); what is left becomes 0."""
    n_words, per = out.shape[1], numbers_in_word(out)
    source = x.ctypes.data
    whole = n // LANES
    for i in range(m // per):
        above = first + per * i * row
        for j in range(whole):
            there = source + 4 * (above + LANES * j)
            interleave(there, there + 4 * row, out, i * n_words + LANES * j)
        for j in range(LANES * whole, n):
            out[i, j] = word_of(x[above + j], x[above + (per - 1) * row + j], out)
        for j in range(n, n_words):
            out[i, j] = 0
    if m % per:
        last = first + (m - 1) * row
        for j in range(n):
            out[m // per, j] = word_of(x[last + j], NOTHING, out)
        for j in range(n, n_words):
            out[m // per, j] = 0


@compiled
def pack_transposed(x, first, row, m, n, rows, out):
    """Make words along the rows of such a matrix, into (n's words, at least m); `rows` has the transposed shape."""
    n_words, width = out.shape
    pack_rows(x, first, row, m, n, rows)
    whole = n_words // LANES * LANES
    source, target = rows.ctypes.data, out.ctypes.data
    for j in range(0, width, LANES):
        for i in range(0, whole, LANES):
            transpose(source + 4 * (j * n_words + i), n_words, target + 4 * (i * width + j), width)
    for i in range(whole, n_words):
        for j in range(width):
            out[i, j] = rows[j, i]
