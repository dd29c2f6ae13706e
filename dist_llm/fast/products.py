"""Matrix products of bfloat16 numbers with float32 sums, of float32 matrices."""

import numpy as np

from dist_llm.fast.compiled import compiled
from dist_llm.fast.instructions import LANES, tile_of
from dist_llm.fast.packing import aligned, pack_columns, pack_rows, pack_transposed, rounded_up

TILE_ROWS, TILE_VECTORS = 6, 4
WIDTH = TILE_VECTORS * LANES
ROWS = 80 * TILE_ROWS  # of a, packed at a time: with DEPTH they take half of a second-level cache of 1 MB
DEPTH = 512  # of the sum

tile = tile_of(TILE_ROWS, TILE_VECTORS)


@compiled
def product(x, x_transposed, w, w_transposed, out, add):
    """Compute out (+)= a b, with a = x or its transpose and b = w or its transpose.

    Parameters
    ----------
    x, w : ndarray of float32
    out : ndarray of float32, shape (m, n), contiguous
    add : bool
        Whether to add to `out`.
    """
    m, n = out.shape
    assert x.itemsize == w.itemsize == out.itemsize == out.strides[1] == 4
    assert out.strides[0] == 4 * n
    depth = x.shape[0] if x_transposed else x.shape[1]
    x_flat, x_row, w_flat, w_row = x.ravel(), x.shape[1], w.ravel(), w.shape[1]
    most_pairs = (min(DEPTH, depth) + 1) // 2
    most_rows = rounded_up(min(ROWS, m), TILE_ROWS)
    a_memory = aligned(most_rows, most_pairs).ravel()
    b_memory = aligned(most_pairs, WIDTH)
    rows = aligned(WIDTH, most_pairs).ravel()
    border = np.empty((TILE_ROWS, WIDTH), np.float32)
    for k in range(0, depth, DEPTH):
        k_stop = min(k + DEPTH, depth)
        n_pairs = (k_stop - k + 1) // 2
        adds = add or k > 0
        b = b_memory[:n_pairs]
        for i in range(0, m, ROWS):
            i_stop = min(i + ROWS, m)
            n_rows = rounded_up(i_stop - i, TILE_ROWS)
            if x_transposed:
                a = a_memory[: n_pairs * n_rows].reshape(n_pairs, n_rows)
                pack_columns(x_flat, k * x_row + i, x_row, k_stop - k, i_stop - i, a)
                a_row, a_pair = 1, n_rows
            else:
                a = a_memory[: n_rows * n_pairs].reshape(n_rows, n_pairs)
                pack_rows(x_flat, i * x_row + k, x_row, i_stop - i, k_stop - k, a)
                a_row, a_pair = n_pairs, 1
            for j in range(0, n, WIDTH):
                j_stop = min(j + WIDTH, n)
                if w_transposed:
                    w_rows = rows[: WIDTH * n_pairs].reshape(WIDTH, n_pairs)
                    pack_transposed(w_flat, j * w_row + k, w_row, j_stop - j, k_stop - k, w_rows, b)
                else:
                    pack_columns(w_flat, k * w_row + j, w_row, k_stop - k, j_stop - j, b)
                for t in range(0, n_rows, TILE_ROWS):
                    start = a_memory.ctypes.data + 4 * t * a_row
                    if i + t + TILE_ROWS <= m and j_stop - j == WIDTH:
                        place = out.ctypes.data + 4 * ((i + t) * n + j)
                        tile(start, a_row, a_pair, b.ctypes.data, n_pairs, place, n, adds)
                    else:  # over the border of `out`
                        tile(start, a_row, a_pair, b.ctypes.data, n_pairs, border.ctypes.data, WIDTH, False)
                        for r in range(i + t, min(m, i + t + TILE_ROWS)):
                            for c in range(j, j_stop):
                                out[r, c] = border[r - i - t, c - j] + (out[r, c] if adds else np.float32(0))
