"""The forms as the tools' own sources print them, and as their readers take them apart."""

import re

import pytest

from dist_llm.scalability.exports.all_reduce import AllReduces, Timing, bus_bandwidth, nccl_tests, osu

FOUR_RANKS = AllReduces(
    4, "nonblocking all-reduce", [Timing(1024, [3e-6, 2.5e-6, 9e-6]), Timing(1 << 20, [2e-3])], "dist_llm 0 on here"
)
ENCODED = AllReduces(2, "all-to-all, all-gather", [Timing(1024, [1e-5])], "dist_llm 0 on here")


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def test_osu_has_a_median_for_each_size():
    assert osu(FOUR_RANKS) == (
        "# Not by osu_allreduce, but in its form: measured by dist_llm 0 on here\n"
        "# 4 ranks; nonblocking all-reduce, in place, one behind the other; the slowest rank's time, median of 3 "
        "batches\n"
        "\n"
        "# OSU MPI Allreduce Latency Test v7.4\n"
        "# Datatype: MPI_FLOAT.\n"
        "# Size         Avg Latency(us)\n"
        "1024                      3.00\n"
        "1048576                2000.00\n"
    )


def test_osu_is_found_by_the_patterns_of_its_readers():
    text = osu(FOUR_RANKS)
    # ReFrame takes the line of a size, Ramble the version and what stands below this very heading.
    assert re.search(r"^1048576\s+(\S+)", text, re.MULTILINE)[1] == "2000.00"
    assert re.search(r"# OSU.*Test (v[0-9.]+)", text)[1] == "v7.4"
    assert re.search(r"^#\s+Size\s+Avg Latency\(us\)\s*$", text, re.MULTILINE)
    assert re.findall(r"^\s*([0-9]+)\s+([0-9.]+)\s*$", text, re.MULTILINE) == [
        ("1024", "3.00"), ("1048576", "2000.00"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ranks", "printed"),
    [
        (8, "8589934592 2147483648 float sum -1 64110 133.99 234.48"),
        (2, "1073741824 268435456 float sum -1 86676 12.39 12.39"),
    ],
)
def test_nccl_tests_has_the_figures_that_the_tool_itself_printed_for_such_a_time(ranks, printed):
    *what, microseconds, algbw, busbw = printed.split()
    measured = AllReduces(ranks, "all-reduce", [Timing(int(what[0]), [1e-6 * float(microseconds)])], "")
    (row,) = rows(nccl_tests(measured))
    assert (row[:5], float(row[9]), row[10:12]) == (what, float(microseconds), [algbw, busbw])


def test_the_two_bandwidths():
    timing = Timing(1 << 20, [2e-3, 1.0, 1e-3])
    assert timing.algorithm_bandwidth == pytest.approx(0.524288)
    assert bus_bandwidth(4, timing) == pytest.approx(0.524288 * 1.5)
    assert bus_bandwidth(2, timing) == timing.algorithm_bandwidth


def test_nccl_tests_can_be_read_by_its_head_and_says_what_is_not_there():
    lines = nccl_tests(FOUR_RANKS).splitlines()
    head = next(line for line in lines if "busbw" in line)[1:].split()
    first, second = rows("\n".join(lines))
    assert dict(zip(head[:5], first[:5], strict=True)) == {
        "size": "1024", "count": "256", "type": "float", "redop": "sum", "root": "-1",
    }  # fmt: skip
    assert first[5:9] == ["N/A"] * 4
    assert dict(zip(head[9:], first[9:], strict=True)) == {
        "time": "3.00", "algbw": "0.34", "busbw": "0.51", "#wrong": "N/A",
    }  # fmt: skip
    assert second[9:12] == ["2000.00", "0.52", "0.79"]
    # The columns stand where the tool puts them: those of the head end where those of the rows end.
    ends = [[match.end() for match in re.finditer(r"\S+", line)] for line in lines if line.strip("# ")]
    assert ends[-5] == ends[-4] == [12, 26, 36, 44, 52, 61, 69, 77, 85, 94, 102, 110, 118]
    assert re.search(r"Avg bus bandwidth\s+: ([0-9.]+)", "\n".join(lines))[1] == "0.649216"


def test_numbers_that_have_no_room_lose_decimals_as_in_the_tool():
    seconds = [99.994e-6, 12345.678e-6, 123456.78e-6, 9999999e-6, 12.0]
    measured = AllReduces(2, "all-reduce", [Timing(4, [s]) for s in seconds], "")
    assert [row[9] for row in rows(nccl_tests(measured))] == ["99.99", "12345.7", "123457", "9999999", "1.2e+07"]


def test_bytes_that_encode_numbers_are_counted_as_bytes():
    assert "# Datatype: MPI_UNSIGNED_CHAR." in osu(ENCODED)
    (row,) = rows(nccl_tests(ENCODED))
    assert row[:3] == ["1024", "1024", "uint8"]
    assert "2 ranks; all-to-all, all-gather, in place" in nccl_tests(ENCODED)
