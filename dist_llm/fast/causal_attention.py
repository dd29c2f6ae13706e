"""Causal attention and its gradients on one head after another, in tiles that stay in the processor's cache.

As `model.causal_attention`: blocks of queries, tiles of scores with a row for each key, exponentials that are divided
by their sum only in the output. What is multiplied are words, bfloat16 or not, all else is float32.
"""

import numpy as np

from dist_llm.fast.compiled import compiled, compiled_sums
from dist_llm.fast.elementwise import exp
from dist_llm.fast.instructions import LANES, multiply_complex, number_at, tile_of
from dist_llm.fast.packing import aligned, pack_columns, pack_rows, pack_transposed, rounded_up, words_of
from dist_llm.fast.processor import NARROW_TILE, WIDE_TILE

QUERIES = 64  # in a block
WIDE_ROWS, WIDE_VECTORS = WIDE_TILE  # keys by queries
NARROW_ROWS, NARROW_VECTORS = NARROW_TILE  # queries or keys by numbers of a head
WIDE_WIDTH, WIDTH = WIDE_VECTORS * LANES, NARROW_VECTORS * LANES
QUERY_ROWS = -(-QUERIES // NARROW_ROWS) * NARROW_ROWS
ONE, MINUS_INFINITY = np.float32(1), np.float32(-np.inf)

wide_tile, narrow_tile = tile_of(WIDE_ROWS, WIDE_VECTORS), tile_of(NARROW_ROWS, NARROW_VECTORS)


@compiled
def rotate(x, x_first, x_row, turns, sign, scale, out, out_first, out_row):
    """Turn each pair of numbers of (T, Dh) by its complex number in (T, Dh), or with `sign` -1 back, times a scale."""
    T, Dh = turns.shape
    whole = Dh // LANES
    for t in range(T):
        here, there = x_first + t * x_row, out_first + t * out_row
        source, turn, target = x.ctypes.data + 4 * here, turns.ctypes.data + 4 * t * Dh, out.ctypes.data + 4 * there
        for i in range(whole):
            multiply_complex(source + 4 * LANES * i, turn + 4 * LANES * i, sign, scale, target + 4 * LANES * i)
        for i in range(whole * LANES, Dh, 2):
            real, imaginary = turns[t, i] * scale, turns[t, i + 1] * (sign * scale)
            first, second = x[here + i], x[here + i + 1]
            out[there + i] = first * real - second * imaginary
            out[there + i + 1] = second * real + first * imaginary


@compiled
def by_queries(rows, n_rows, panels, out):
    """Compute out (n_rows, 64) = rows (n_rows, words) times a block's panels (_, words, width)."""
    n_words = rows.shape[1]
    for p in range(len(panels)):
        for i in range(0, n_rows, WIDE_ROWS):
            a, c = rows.ctypes.data + 4 * i * n_words, out.ctypes.data + 4 * (i * QUERIES + p * WIDE_WIDTH)
            wide_tile(a, n_words, 1, panels[p], n_words, c, QUERIES, False)


@compiled
def by_head(a, a_row, a_word, n_rows, panels, n_words, out, add):
    """Compute out (n_rows, numbers of a head) (+)= rows of words times panels (_, words, width)."""
    a_start, width = a.ctypes.data, out.shape[1]
    for p in range(len(panels)):
        for i in range(0, n_rows, NARROW_ROWS):
            c = out.ctypes.data + 4 * (i * width + p * WIDTH)
            narrow_tile(a_start + 4 * i * a_row, a_row, a_word, panels[p], n_words, c, width, add)


@compiled
def pack_panels(x, first, row, m, n, out):
    """Make words along the columns of a matrix (m, n), into panels (_, m's words, width)."""
    for p in range(len(out)):
        pack_columns(x, first + p * WIDTH, row, m, min(WIDTH, n - p * WIDTH), out[p])


@compiled
def pack_queries(x, first, row, m, n, rows, out):
    """Make words along the rows of a block (m, n), transposed, into panels (_, n's words, width)."""
    for p in range(len(out)):
        own = max(0, min(WIDE_WIDTH, m - p * WIDE_WIDTH))
        pack_transposed(x, first + p * WIDE_WIDTH * row, row, own, n, rows, out[p])


@compiled
def exponentials(q, start, stop, Dh, k_rows, rows, panels, safe, scores, sums):
    """Fill `scores` with the exponentials of those of a block, 0 where the key lies behind the query; add them up."""
    pack_queries(q, start * Dh, Dh, stop - start, Dh, rows, panels)
    by_queries(k_rows, stop, panels, scores)
    for key in range(start, stop):
        scores[key, : key - start] = MINUS_INFINITY
    if not safe:
        largest = np.full(QUERIES, MINUS_INFINITY)
        for key in range(stop):
            for i in range(QUERIES):
                largest[i] = max(largest[i], scores[key, i])
        for key in range(stop):
            for i in range(QUERIES):
                scores[key, i] -= largest[i]
    sums[:] = 0
    for key in range(stop):
        for i in range(QUERIES):
            e = exp(scores[key, i])
            scores[key, i] = e
            sums[i] += e


@compiled_sums
def longest(x):
    """Return the largest square of the lengths of rows; not a number if one of them is not."""
    most = np.float32(0)
    for t in range(len(x)):
        square = np.float32(0)
        for i in range(x.shape[1]):
            square += x[t, i] * x[t, i]
        if not square <= most and most == most:
            most = square
    return most


@compiled
def scaled(x, factor, out):
    """Compute out = x * factor, for the length of out."""
    for i in range(len(out)):
        out[i] = x[i] * factor


@compiled_sums
def dot(x, y):
    """Return the sum of x * y."""
    total = np.float32(0)
    for i in range(len(x)):
        total += x[i] * y[i]
    return total


@compiled
def to_scores_(dp, e, along):
    """Turn the gradients of probabilities into those of scores, given the words of exponentials."""
    for i in range(QUERIES):
        dp[i] = number_at(e, i) * (dp[i] - along[i])


@compiled
def kept_rows(T):
    """Return how many rows of a block's words the exponentials of a head take."""
    return sum([rounded_up(min(start + QUERIES, T), NARROW_ROWS) for start in range(0, T, QUERIES)])


@compiled
def attention(qkv, turns, scale, n_heads, n_kv_heads, safe_score, o, sums, kept, first_kv, last_kv):
    """Attend each position to itself and those before it.

    Parameters
    ----------
    qkv : ndarray of shape (B T (H + 2 K) Dh,)
        Queries, keys and values of all heads, before the rotation.
    turns : ndarray of shape (T, Dh)
        The rotations, real and imaginary parts in turn.
    scale : float32
        Factor of the scores.
    o : ndarray of shape (B, T, H Dh)
        Receives the outputs.
    sums : ndarray of shape (B, H, T)
        Receives the sums of the exponentials.
    kept : ndarray of words, shape (B, H, kept_rows(T), 64's words), or (0, 0, 0, 0)
        Receives the exponentials, if there is room; and its type says what kind of words to multiply.
    first_kv, last_kv : int
        Which of the B K key and value heads to do, with the queries of each.
    """
    T, Dh = turns.shape
    width = (n_heads + 2 * n_kv_heads) * Dh
    group, n_words, t_words = n_heads // n_kv_heads, words_of(Dh, kept), words_of(T, kept)
    n_panels = rounded_up(Dh, WIDTH) // WIDTH
    most_keys = rounded_up(T, WIDE_ROWS * NARROW_ROWS)
    turned = np.empty(T * Dh, np.float32)
    k_rows = aligned(most_keys, n_words, kept)
    v_panels = aligned(n_panels * t_words, WIDTH, kept).reshape(n_panels, t_words, WIDTH)
    rows = aligned(WIDE_WIDTH, n_words, kept)
    panels = aligned(QUERIES // WIDE_WIDTH * n_words, WIDE_WIDTH, kept).reshape(-1, n_words, WIDE_WIDTH)
    e = np.empty((most_keys, QUERIES), np.float32)
    e_words = aligned(words_of(most_keys, kept), rounded_up(QUERY_ROWS, LANES), kept)
    out = np.empty((QUERY_ROWS, n_panels * WIDTH), np.float32)
    block_sums = np.empty(QUERIES, np.float32)
    safe_square = safe_score * safe_score
    for pair in range(first_kv, last_kv):
        b, kv = pair // n_kv_heads, pair % n_kv_heads
        first = b * T * width
        k_start, v_start = first + (n_heads + kv) * Dh, first + (n_heads + n_kv_heads + kv) * Dh
        rotate(qkv, k_start, width, turns, ONE, ONE, turned, 0, Dh)
        longest_k = longest(turned.reshape(T, Dh))
        pack_rows(turned, 0, Dh, T, Dh, k_rows)
        pack_panels(qkv, v_start, width, T, Dh, v_panels)
        for h in range(kv * group, (kv + 1) * group):
            rotate(qkv, first + h * Dh, width, turns, ONE, scale, turned, 0, Dh)
            safe = longest(turned.reshape(T, Dh)) * longest_k < safe_square
            row = 0
            for start in range(0, T, QUERIES):
                stop = min(start + QUERIES, T)
                exponentials(turned, start, stop, Dh, k_rows, rows, panels, safe, e, block_sums)
                pack_columns(e.ravel(), 0, QUERIES, stop, QUERIES, e_words)
                by_head(e_words, 1, e_words.shape[1], stop - start, v_panels, words_of(stop, kept), out, False)
                sums[b, h, start:stop] = block_sums[: stop - start]
                for t in range(start, stop):
                    scaled(out[t - start], np.float32(1) / block_sums[t - start], o[b, t, h * Dh : (h + 1) * Dh])
                if len(kept):
                    n_rows = rounded_up(stop, NARROW_ROWS)
                    pack_rows(e.ravel(), 0, QUERIES, stop, QUERIES, kept[b, h, row : row + n_rows])
                    row += n_rows


@compiled_sums
def attention_backward(do, o, sums, kept, qkv, turns, scale, n_heads, n_kv_heads, safe_score, dqkv, first_kv, last_kv):
    """Fill the gradient of `qkv`, given that of `o` and what `attention` computed."""
    T, Dh = turns.shape
    width = (n_heads + 2 * n_kv_heads) * Dh
    group, n_words, t_words = n_heads // n_kv_heads, words_of(Dh, kept), words_of(T, kept)
    q_words = words_of(QUERIES, kept)
    n_panels = rounded_up(Dh, WIDTH) // WIDTH
    most_keys = rounded_up(T, WIDE_ROWS * NARROW_ROWS)
    q, k, do_by_sum = np.empty(T * Dh, np.float32), np.empty(T * Dh, np.float32), np.empty(T * Dh, np.float32)
    k_rows, v_rows = aligned(most_keys, n_words, kept), aligned(most_keys, n_words, kept)
    k_panels = aligned(n_panels * t_words, WIDTH, kept).reshape(n_panels, t_words, WIDTH)
    rows = aligned(WIDE_WIDTH, n_words, kept)
    panels = aligned(QUERIES // WIDE_WIDTH * n_words, WIDE_WIDTH, kept).reshape(-1, n_words, WIDE_WIDTH)
    q_panels = aligned(n_panels * q_words, WIDTH, kept).reshape(n_panels, q_words, WIDTH)
    do_panels = aligned(n_panels * q_words, WIDTH, kept).reshape(n_panels, q_words, WIDTH)
    ds = np.empty((most_keys, QUERIES), np.float32)
    again = np.empty((1 if len(kept) else most_keys, QUERIES), np.float32)
    e_rows, ds_rows = aligned(most_keys, q_words, kept), aligned(most_keys, q_words, kept)
    ds_words = aligned(words_of(most_keys, kept), rounded_up(QUERY_ROWS, LANES), kept)
    dq = np.empty((T + QUERY_ROWS, n_panels * WIDTH), np.float32)
    dk, dv = np.empty((most_keys, n_panels * WIDTH), np.float32), np.empty((most_keys, n_panels * WIDTH), np.float32)
    block_sums = np.empty(QUERIES, np.float32)
    along = np.zeros(rounded_up(T, QUERIES), np.float32)
    safe_square = safe_score * safe_score
    for pair in range(first_kv, last_kv):
        b, kv = pair // n_kv_heads, pair % n_kv_heads
        first = b * T * width
        k_start, v_start = first + (n_heads + kv) * Dh, first + (n_heads + n_kv_heads + kv) * Dh
        rotate(qkv, k_start, width, turns, ONE, ONE, k, 0, Dh)
        longest_k = longest(k.reshape(T, Dh))
        pack_rows(k, 0, Dh, T, Dh, k_rows)
        pack_panels(k, 0, Dh, T, Dh, k_panels)
        pack_rows(qkv, v_start, width, T, Dh, v_rows)
        dk[:] = 0
        dv[:] = 0
        for h in range(kv * group, (kv + 1) * group):
            rotate(qkv, first + h * Dh, width, turns, ONE, scale, q, 0, Dh)
            safe = longest(q.reshape(T, Dh)) * longest_k < safe_square
            # o = (e / s) v, so every use of do wants it divided by s; and with p = e / s, the softmax has
            # dscore = p (dp - sum(p dp)), where that sum over keys is the sum of do o over Dh.
            for t in range(T):
                own = slice(h * Dh, (h + 1) * Dh)
                inverse = np.float32(1) / sums[b, h, t]
                along[t] = dot(do[b, t, own], o[b, t, own]) * inverse
                scaled(do[b, t, own], inverse, do_by_sum[t * Dh : (t + 1) * Dh])
            row = 0
            for start in range(0, T, QUERIES):
                stop = min(start + QUERIES, T)
                n_rows, own_words = rounded_up(stop, NARROW_ROWS), words_of(stop - start, kept)
                if len(kept):
                    e = kept[b, h, row : row + n_rows]
                    row += n_rows
                else:
                    exponentials(q, start, stop, Dh, k_rows, rows, panels, safe, again, block_sums)
                    pack_rows(again.ravel(), 0, QUERIES, stop, QUERIES, e_rows[:n_rows])
                    e = e_rows[:n_rows]
                pack_panels(do_by_sum, start * Dh, Dh, stop - start, Dh, do_panels)
                by_head(e, q_words, 1, n_rows, do_panels, own_words, dv, True)
                pack_queries(do_by_sum, start * Dh, Dh, stop - start, Dh, rows, panels)
                by_queries(v_rows, stop, panels, ds)
                for key in range(stop):
                    to_scores_(ds[key], e[key], along[start : start + QUERIES])
                # forward was scores = k q^T, so now ...
                pack_columns(ds.ravel(), 0, QUERIES, stop, QUERIES, ds_words)
                by_head(ds_words, 1, ds_words.shape[1], stop - start, k_panels, words_of(stop, kept), dq[start:], False)
                pack_rows(ds.ravel(), 0, QUERIES, stop, QUERIES, ds_rows[:n_rows])
                pack_panels(q, start * Dh, Dh, stop - start, Dh, q_panels)
                by_head(ds_rows, q_words, 1, n_rows, q_panels, own_words, dk, True)
            rotate(dq.ravel(), 0, dq.shape[1], turns, -ONE, scale, dqkv, first + h * Dh, width)
        rotate(dk.ravel(), 0, dk.shape[1], turns, -ONE, ONE, dqkv, k_start, width)
        for t in range(T):
            there = v_start + t * width
            dqkv[there : there + Dh] = dv[t, :Dh]
