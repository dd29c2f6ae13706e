"""What the processor has, as numba compiles for it, and the tiles that its registers hold."""

from numba.core.registry import cpu_target

_FEATURES = cpu_target.target_context.codegen().magic_tuple()[2].split(",")


def has(feature: str) -> bool:
    """Whether the processor has a feature, as LLVM names it; NUMBA_CPU_FEATURES may say that it has not."""
    return f"+{feature}" in _FEATURES


# Rows, and vectors of 16 numbers in a row: of AVX-512's 32 registers they take 24, of others' 16 with 8 numbers, 12.
WIDE_TILE, NARROW_TILE = ((6, 4), (12, 2)) if has("avx512f") else ((6, 1), (6, 1))
