"""Instructions of the processor that numba has no name for, on vectors of 16 numbers in memory.

What is multiplied comes in words of 32 bits. In an array of uint32 a word is a pair of bfloat16 numbers, the first in
the lower bits: what one lane of AVX512-BF16's product takes. In an array of float32 it is a single number, for
processors without that, and the same functions make other instructions of it.

Each function here is a few lines of LLVM's language, which numba compiles into the loop that calls it. Of addresses and
places in arrays numba checks nothing: the kernels of this room are to call these, and nobody else.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16
# What kind of words: empty arrays that stand for their type, since numba knows an array's faster than any other.
PAIRS, SINGLES = np.empty(0, np.uint32), np.empty(0, np.float32)

I16, I32, I64, F32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
FLOATS, WORDS, HALVES = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES), ir.VectorType(I16, 2 * LANES)
ADDRESS = types.intp


class _BFloat16(ir.types.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite has no name for."""

    intrinsic_name = "bf16"

    def __str__(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self))

    def __hash__(self) -> int:
        return hash(type(self))


BFLOATS = ir.VectorType(_BFloat16(), 2 * LANES)


def _i32(value: int) -> ir.Constant:
    return ir.Constant(I32, value)


def _i64(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


def _load(builder: ir.IRBuilder, address: ir.Value, type_: ir.Type, offset: int = 0, align: int = 4) -> ir.Value:
    """Load a vector; `offset` counts vectors."""
    pointer = builder.inttoptr(address, type_.as_pointer())
    loaded = builder.load(builder.gep(pointer, [_i64(offset)]))
    loaded.align = align
    return loaded


def _store(builder: ir.IRBuilder, vector: ir.Value, address: ir.Value) -> None:
    builder.store(vector, builder.inttoptr(address, vector.type.as_pointer())).align = 4


def _plus(builder: ir.IRBuilder, address: ir.Value, *factors: ir.Value) -> ir.Value:
    """Return address + the product of the factors * 4."""
    offset = _i64(4)
    for factor in factors:
        offset = builder.mul(offset, factor)
    return builder.add(address, offset)


def _are_pairs(words: types.Array) -> bool:
    return bool(words.dtype == types.uint32)


def _place(context: Any, builder: ir.IRBuilder, type_: types.Array, words: ir.Value, place: ir.Value) -> ir.Value:
    """Return the address of a place in an array, counted in words."""
    array = context.make_array(type_)(context, builder, words)
    return _plus(builder, builder.ptrtoint(array.data, I64), place)


def _to_bfloat16(builder: ir.IRBuilder, low: ir.Value, high: ir.Value) -> ir.Value:
    """32 bfloat16 numbers of twice 16 float32 numbers, rounded to nearest, ties to even; a NaN stays one."""
    function = builder.module.declare_intrinsic(
        "llvm.x86.avx512bf16.cvtne2ps2bf16.512", fnty=ir.FunctionType(BFLOATS, [FLOATS, FLOATS])
    )
    return builder.bitcast(builder.call(function, [high, low]), HALVES)


@intrinsic
def numbers_in_word(context: Any, words: Any) -> Any:
    """Return how many numbers a word of an array is, 1 or 2: a constant."""
    count = 2 if _are_pairs(words) else 1
    return types.intp(words), lambda context, builder, signature, arguments: _i64(count)


@intrinsic
def convert(context: Any, source: Any, words: Any, place: Any) -> Any:
    """Convert as many neighbours as 16 words take, to a place in an array."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source, words_, place = arguments
        converted = _load(builder, source, FLOATS)
        if _are_pairs(words):
            converted = _to_bfloat16(builder, converted, _load(builder, source, FLOATS, 1))
        _store(builder, converted, _place(context, builder, words, words_, place))
        return context.get_dummy_value()

    return types.void(ADDRESS, words, types.intp), generate


@intrinsic
def interleave(context: Any, first: Any, second: Any, words: Any, place: Any) -> Any:
    """Convert 16 neighbours of one row, and of another to make pairs of one of each, to a place in an array."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        first, second, words_, place = arguments
        converted = _load(builder, first, FLOATS)
        if _are_pairs(words):
            halves = _to_bfloat16(builder, converted, _load(builder, second, FLOATS))
            order = [place for lane in range(LANES) for place in (lane, LANES + lane)]
            mask = ir.Constant(ir.VectorType(I32, 2 * LANES), order)
            converted = builder.shuffle_vector(halves, halves, mask)
        _store(builder, converted, _place(context, builder, words, words_, place))
        return context.get_dummy_value()

    return types.void(ADDRESS, ADDRESS, words, types.intp), generate


@intrinsic
def word_of(context: Any, first: Any, second: Any, words: Any) -> Any:
    """Return a word of the kind of an array: a pair of two numbers, or the first one."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        if not _are_pairs(words):
            return arguments[0]
        zeros = ir.Constant(FLOATS, [0.0] * LANES)
        low, high = (builder.insert_element(zeros, number, _i32(0)) for number in arguments[:2])
        halves = _to_bfloat16(builder, low, high)
        first, second = (builder.zext(builder.extract_element(halves, _i32(i)), I32) for i in (0, LANES))
        return builder.or_(first, builder.shl(second, _i32(16)))

    return words.dtype(types.float32, types.float32, words), generate


@intrinsic
def number_at(context: Any, words: Any, place: Any) -> Any:
    """Return a number of an array of words, as float32."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        pointer = context.make_array(words)(context, builder, arguments[0]).data
        if not _are_pairs(words):
            return builder.load(builder.gep(pointer, [arguments[1]]))
        halves = builder.bitcast(pointer, I16.as_pointer())
        half = builder.zext(builder.load(builder.gep(halves, [arguments[1]])), I32)
        return builder.bitcast(builder.shl(half, _i32(16)), F32)

    return types.float32(words, types.intp), generate


@intrinsic
def transpose(context: Any, source: Any, source_row: Any, target: Any, target_row: Any) -> Any:
    """Write 16 rows of 16 numbers of 32 bits as columns; the distances of rows count numbers."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source, source_row, target, target_row = arguments
        rows = [_load(builder, _plus(builder, source, source_row, _i64(r)), WORDS) for r in range(LANES)]
        size = LANES // 2
        while size:  # exchange the two blocks beside the diagonal, in blocks of half the size each time
            for r in (r for r in range(LANES) if not r & size):
                above, below = rows[r], rows[r | size]
                upper = [LANES + (lane ^ size) if lane & size else lane for lane in range(LANES)]
                lower = [LANES + lane if lane & size else lane | size for lane in range(LANES)]
                rows[r] = builder.shuffle_vector(above, below, ir.Constant(WORDS, upper))
                rows[r | size] = builder.shuffle_vector(above, below, ir.Constant(WORDS, lower))
            size //= 2
        for r, row in enumerate(rows):
            _store(builder, row, _plus(builder, target, target_row, _i64(r)))
        return context.get_dummy_value()

    return types.void(ADDRESS, types.intp, ADDRESS, types.intp), generate


def _multiply_add(builder: ir.IRBuilder, of_pairs: bool, x: ir.Value, y: ir.Value, sums: ir.Value) -> ir.Value:
    """Return the sums plus the products of words."""
    if of_pairs:
        name, vectors = "llvm.x86.avx512bf16.dpbf16ps.512", BFLOATS
    else:
        name, vectors = "llvm.fma.v16f32", FLOATS
    x, y = builder.bitcast(x, vectors), builder.bitcast(y, vectors)
    arguments = [sums, x, y] if of_pairs else [x, y, sums]
    function = ir.FunctionType(FLOATS, [argument.type for argument in arguments])
    return builder.call(builder.module.declare_intrinsic(name, fnty=function), arguments)


def tile_of(n_rows: int, n_vectors: int) -> Any:
    """Return an instruction that multiplies matrices of words into a tile that stays in the processor's registers.

    c[i, j] (+)= sum over k of the products of the words a[i, k] and b[k, j], for i < `n_rows` and j < 16 `n_vectors`.
    """

    @intrinsic
    def tile(context: Any, a: Any, a_row: Any, a_word: Any, b: Any, n_words: Any, c: Any, c_row: Any, add: Any) -> Any:
        """Distances of the rows and of the words of a, and of the rows of c, count words; b is a dense array."""
        b_type, of_pairs = b, _are_pairs(b)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            a, a_row, a_word, b, n_words, c, c_row, add = arguments
            b = _place(context, builder, b_type, b, _i64(0))
            before = builder.block
            loop, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
            row_of = [_plus(builder, a, a_row, _i64(i)) for i in range(n_rows)]
            builder.branch(loop)

            builder.position_at_end(loop)
            k = builder.phi(I64)
            sums = [[builder.phi(FLOATS) for _ in range(n_vectors)] for _ in range(n_rows)]
            b_row = _plus(builder, b, k, _i64(LANES * n_vectors))
            columns = [_load(builder, b_row, WORDS, j, align=64) for j in range(n_vectors)]
            new = []
            for i in range(n_rows):
                place = builder.inttoptr(_plus(builder, row_of[i], a_word, k), I32.as_pointer())
                alone = builder.insert_element(ir.Constant(WORDS, ir.Undefined), builder.load(place), _i32(0))
                everywhere = builder.shuffle_vector(alone, alone, ir.Constant(WORDS, [0] * LANES))
                new.append(
                    [_multiply_add(builder, of_pairs, everywhere, columns[j], sums[i][j]) for j in range(n_vectors)]
                )
            next_k = builder.add(k, _i64(1))
            k.add_incoming(_i64(0), before)
            k.add_incoming(next_k, loop)
            for i in range(n_rows):
                for j in range(n_vectors):
                    sums[i][j].add_incoming(ir.Constant(FLOATS, [0.0] * LANES), before)
                    sums[i][j].add_incoming(new[i][j], loop)
            builder.cbranch(builder.icmp_signed("<", next_k, n_words), loop, after)

            builder.position_at_end(after)
            with builder.if_else(add) as (added, overwritten):
                with added:
                    for i in range(n_rows):
                        row = _plus(builder, c, c_row, _i64(i))
                        for j in range(n_vectors):
                            place = _plus(builder, row, _i64(LANES * j))
                            _store(builder, builder.fadd(_load(builder, place, FLOATS), new[i][j]), place)
                with overwritten:
                    for i in range(n_rows):
                        row = _plus(builder, c, c_row, _i64(i))
                        for j in range(n_vectors):
                            _store(builder, new[i][j], _plus(builder, row, _i64(LANES * j)))
            return context.get_dummy_value()

        return types.void(ADDRESS, *[types.intp] * 2, b_type, types.intp, ADDRESS, types.intp, types.boolean), generate

    return tile


@intrinsic
def multiply_complex(context: Any, x: Any, y: Any, sign: Any, scale: Any, target: Any) -> Any:
    """Multiply 8 complex numbers by 8 others, or with `sign` -1 by their conjugates, and by a scale."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        x, y, sign, scale, target = arguments
        x, y = _load(builder, x, FLOATS), _load(builder, y, FLOATS)

        def taken(vector: ir.Value, lanes: list[int]) -> ir.Value:
            return builder.shuffle_vector(vector, vector, ir.Constant(WORDS, lanes))

        def in_lanes(even: ir.Value, odd: ir.Value) -> ir.Value:
            two = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), even, _i32(0))
            return taken(builder.insert_element(two, odd, _i32(1)), [0, 1] * (LANES // 2))

        real = builder.fmul(taken(y, [lane & ~1 for lane in range(LANES)]), in_lanes(scale, scale))
        factor = builder.fmul(sign, scale)
        imaginary = builder.fmul(taken(y, [lane | 1 for lane in range(LANES)]), in_lanes(builder.fneg(factor), factor))
        swapped = taken(x, [lane ^ 1 for lane in range(LANES)])
        _store(builder, builder.fadd(builder.fmul(x, real), builder.fmul(swapped, imaginary)), target)
        return context.get_dummy_value()

    return types.void(ADDRESS, ADDRESS, types.float32, types.float32, ADDRESS), generate


@intrinsic
def float_of_bits(context: Any, bits: Any) -> Any:
    """Return the float32 number of 32 bits."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], F32)

    return types.float32(types.int32), generate
