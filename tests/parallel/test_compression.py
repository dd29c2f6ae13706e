import numpy as np
import pytest

from dist_llm.parallel.compression import BITS, decode, encode, encoded_bytes


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("n", [0, 1, 1023, 1024, 3000])
def test_numbers_come_back_as_exactly_as_the_format_can(dtype, n):
    x = (np.random.default_rng(1).standard_normal(n) * 10.0 ** np.repeat([-9, 3, 0, 5], 1024)[:n]).astype(np.float32)
    encoded = encode(x, dtype)
    assert encoded.dtype == np.uint8
    assert encoded.size == encoded_bytes(n, dtype)
    got = decode(encoded, n, dtype)
    assert got.dtype == np.float32
    largest = np.repeat([np.abs(x[i : i + 1024]).max() for i in range(0, n, 1024)], 1024)[:n]
    # Half a unit in the last place: of the number itself, or of the largest of its block.
    bound = {
        "float32": 0 * x,
        "float16": np.maximum(np.abs(x) * 2.0**-11, largest * 2.0**-25),
        "bfloat16": np.abs(x) * 2.0**-8 + 1e-40,
        "int8": largest / 254,
        "int4": largest / 14,
    }[dtype]
    assert (np.abs(got - x) <= bound * 1.001).all()


def test_bfloat16_rounds_to_nearest_even_like_its_definition():
    x = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8], np.float32)
    assert decode(encode(x, "bfloat16"), 5, "bfloat16").tolist() == [1.0, 1.0, 1 + 2**-6, 1 + 2**-7, -1.0]


def test_zeros_stay_zeros():
    for dtype in BITS:
        assert (decode(encode(np.zeros(5, np.float32), dtype), 5, dtype) == 0).all()
