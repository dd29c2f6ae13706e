"""Matrix products with float32 sums: of float32 matrices, whose numbers are rounded to bfloat16 or not."""

import numpy as np

from dist_llm.fast.compiled import compiled
from dist_llm.fast.instructions import LANES, numbers_in_word, tile_of
from dist_llm.fast.packing import aligned, pack_columns, pack_rows, pack_transposed, rounded_up, words_of
from dist_llm.fast.processor import NARROW_TILE, WIDE_TILE
from dist_llm.fast.threads import share_out

WIDE_ROWS, NARROW_ROWS = WIDE_TILE[0], NARROW_TILE[0]
WIDTH, NARROW_WIDTH = WIDE_TILE[1] * LANES, NARROW_TILE[1] * LANES
TILE_ROWS = max(WIDE_ROWS, NARROW_ROWS)
ROWS = 43 * TILE_ROWS  # of a, packed at a time: with WORDS they take half of a second-level cache of 1 MB
WORDS = 288  # of the sum

wide_tile, narrow_tile = tile_of(*WIDE_TILE), tile_of(*NARROW_TILE)


@compiled
def tile(narrow, a, a_row, a_word, b, n_words, c, c_row, add):
    """Multiply into a tile of either shape."""
    if narrow:
        narrow_tile(a, a_row, a_word, b, n_words, c, c_row, add)
    else:
        wide_tile(a, a_row, a_word, b, n_words, c, c_row, add)


@compiled
def _product(x, x_transposed, first, w, w_transposed, out, add, kind):
    """Compute the rows of `product` from the `first` on, as many as `out` has."""
    m, n = out.shape
    assert x.itemsize == w.itemsize == out.itemsize == out.strides[1] == 4
    assert out.strides[0] == 4 * n
    depth = x.shape[0] if x_transposed else x.shape[1]
    x_flat, x_row, w_flat, w_row = x.ravel(), x.shape[1], w.ravel(), w.shape[1]
    n_parts = rounded_up(words_of(depth, kind), WORDS) // WORDS
    most_words = rounded_up(words_of(depth, kind), n_parts) // n_parts
    step = most_words * numbers_in_word(kind)
    most_rows = rounded_up(min(ROWS, m), TILE_ROWS)
    a_memory = aligned(most_rows, most_words, kind).ravel()
    b_memory = aligned(most_words, WIDTH, kind).ravel()
    rows = aligned(WIDTH, most_words, kind).ravel()
    border = np.empty((TILE_ROWS, WIDTH), np.float32)
    for k in range(0, depth, step):
        k_stop = min(k + step, depth)
        n_words = words_of(k_stop - k, kind)
        adds = add or k > 0
        for i in range(0, m, ROWS):
            i_stop = min(i + ROWS, m)
            n_rows = rounded_up(i_stop - i, TILE_ROWS)
            if x_transposed:
                a = a_memory[: n_words * n_rows].reshape(n_words, n_rows)
                pack_columns(x_flat, k * x_row + first + i, x_row, k_stop - k, i_stop - i, a)
                a_row, a_word = 1, n_rows
            else:
                a = a_memory[: n_rows * n_words].reshape(n_rows, n_words)
                pack_rows(x_flat, (first + i) * x_row + k, x_row, i_stop - i, k_stop - k, a)
                a_row, a_word = n_words, 1
            for j in range(0, n, WIDTH):
                narrow = n - j <= NARROW_WIDTH
                width, tile_rows = (NARROW_WIDTH, NARROW_ROWS) if narrow else (WIDTH, WIDE_ROWS)
                j_stop = min(j + width, n)
                b = b_memory[: n_words * width].reshape(n_words, width)
                if w_transposed:
                    w_rows = rows[: width * n_words].reshape(width, n_words)
                    pack_transposed(w_flat, j * w_row + k, w_row, j_stop - j, k_stop - k, w_rows, b)
                else:
                    pack_columns(w_flat, k * w_row + j, w_row, k_stop - k, j_stop - j, b)
                for t in range(0, n_rows, tile_rows):
                    start = a_memory.ctypes.data + 4 * t * a_row
                    if i + t + tile_rows <= m and j_stop - j == width:
                        place = out.ctypes.data + 4 * ((i + t) * n + j)
                        tile(narrow, start, a_row, a_word, b, n_words, place, n, adds)
                    else:  # over the border of `out`
                        tile(narrow, start, a_row, a_word, b, n_words, border.ctypes.data, WIDTH, False)
                        for r in range(i + t, min(m, i + t + tile_rows)):
                            for c in range(j, j_stop):
                                out[r, c] = border[r - i - t, c - j] + (out[r, c] if adds else np.float32(0))


def product(
    x: np.ndarray,
    x_transposed: bool,
    w: np.ndarray,
    w_transposed: bool,
    out: np.ndarray,
    add: bool,
    kind: np.ndarray,
) -> None:
    """Compute out (+)= a b, with a = x or its transpose and b = w or its transpose.

    Parameters
    ----------
    x, w : ndarray of float32
    x_transposed, w_transposed : bool
    out : ndarray of float32, shape (m, n), contiguous
    add : bool
        Whether to add to `out`.
    kind : ndarray
        `PAIRS` to round to bfloat16, or `SINGLES`.
    """

    def compute(rows: slice) -> None:
        _product(x, x_transposed, rows.start, w, w_transposed, out[rows], add, kind)

    share_out(len(out), compute, TILE_ROWS)
