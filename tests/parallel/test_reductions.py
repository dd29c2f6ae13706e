import numpy as np
import pytest

from dist_llm.parallel.comm import SerialComm
from dist_llm.parallel.wire import WIRE_FORMATS, decode, encode, encoded_bytes
from tests.parallel import reduction_checks


def test_one_process(capsys):
    assert reduction_checks.main([], SerialComm()) == 0


@pytest.mark.mpirun
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_ranks(run, ranks):
    result = run(ranks, "-m", "tests.parallel.reduction_checks")
    assert result.returncode == 0, result.stderr
    assert f"checked all reductions on {ranks} ranks" in result.stdout


@pytest.mark.parametrize("wire", WIRE_FORMATS)
@pytest.mark.parametrize("n", [0, 1, 1023, 1024, 3000])
def test_numbers_come_back_as_exactly_as_the_format_can(wire, n):
    x = (np.random.default_rng(1).standard_normal(n) * 10.0 ** np.repeat([-9, 3, 0, 5], 1024)[:n]).astype(np.float32)
    encoded = encode(x, wire)
    assert encoded.dtype == np.uint8
    assert encoded.size == encoded_bytes(n, wire)
    got = decode(encoded, n, wire)
    assert got.dtype == np.float32
    largest = np.repeat([np.abs(x[i : i + 1024]).max() for i in range(0, n, 1024)], 1024)[:n]
    # Half a unit in the last place: of the number itself, or of the largest of its block.
    bound = {
        "float32": 0 * x,
        "float16": np.maximum(np.abs(x) * 2.0**-11, largest * 2.0**-25),
        "bfloat16": np.abs(x) * 2.0**-8 + 1e-40,
        "int8": largest / 254,
    }[wire]
    assert (np.abs(got - x) <= bound * 1.001).all()


def test_bfloat16_rounds_to_nearest_even_like_its_definition():
    x = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8], np.float32)
    assert decode(encode(x, "bfloat16"), 5, "bfloat16").tolist() == [1.0, 1.0, 1 + 2**-6, 1 + 2**-7, -1.0]


def test_zeros_stay_zeros():
    for wire in WIRE_FORMATS:
        assert (decode(encode(np.zeros(5, np.float32), wire), 5, wire) == 0).all()
