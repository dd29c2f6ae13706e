import pytest

from dist_llm.measuring.tables import Section, between, count, wrap
from dist_llm.seeding import generator

TABLE = [
    ("ranks x threads", "cores", "tokens/s", "(95 %)", "speed-up", "remark"),
    ("1x1", "1", "1,234", "(1,200..1,250)", "1.00", "reference"),
    ("4x1", "4", "4,321", "(4,300..4,350)", "3.50", "other work disturbed 3 of 3 runs, so that nothing is concluded"),
]


def lines(columns: int) -> list[str]:
    return Section("speed", TABLE, (0, 5), ["words that are below"]).text(columns).splitlines()


def test_a_table_that_fits_is_one_block():
    assert lines(130) == [
        "speed",
        "  ranks x threads  cores  tokens/s          (95 %)  speed-up  remark",
        "  1x1                  1     1,234  (1,200..1,250)      1.00  reference",
        "  4x1                  4     4,321  (4,300..4,350)      3.50  other work disturbed 3 of 3 runs, so that "
        "nothing is concluded",
        "  words that are below",
    ]


def test_one_that_nearly_fits_has_its_heads_and_long_cells_wrapped():
    assert lines(84) == [
        "speed",
        "  ranks x",
        "  threads    cores  tokens/s          (95 %)  speed-up  remark",
        "  1x1            1     1,234  (1,200..1,250)      1.00  reference",
        "  4x1            4     4,321  (4,300..4,350)      3.50  other work disturbed 3 of 3",
        "                                                        runs, so that nothing is",
        "                                                        concluded",
        "  words that are below",
    ]


def test_others_are_divided_into_blocks_which_begin_with_the_first_column():
    assert lines(48) == [
        "speed",
        "  ranks x",
        "  threads        cores  tokens/s          (95 %)",
        "  1x1                1     1,234  (1,200..1,250)",
        "  4x1                4     4,321  (4,300..4,350)",
        "",
        "  ranks x",
        "  threads       speed-up  remark",
        "  1x1               1.00  reference",
        "  4x1               3.50  other work disturbed 3",
        "                          of 3 runs, so that",
        "                          nothing is concluded",
        "  words that are below",
    ]


def test_a_column_whose_head_is_in_brackets_stays_beside_the_one_before():
    blocks = Section("", TABLE, (0, 5)).text(40).split("\n\n")
    assert ["tokens/s" in block for block in blocks] == ["(95 %)" in block for block in blocks]
    assert len(blocks) > 2


def test_where_there_is_no_terminal_it_has_80_columns_or_those_of_the_environment(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    section = Section("title", words=["word " * 40])
    assert 70 < max(map(len, section.text().splitlines())) <= 80
    assert 70 < max(map(len, wrap("word " * 40).splitlines())) <= 80
    monkeypatch.setenv("COLUMNS", "40")
    assert 30 < max(map(len, section.text().splitlines())) <= 40


def test_on_a_terminal_it_is_as_wide_as_that(monkeypatch):
    monkeypatch.setattr("dist_llm.measuring.tables.terminal_columns", lambda: 50)
    assert 40 < max(map(len, Section("title", words=["word " * 40]).text().splitlines())) <= 50


def test_words_are_in_readable_lines_on_a_very_wide_terminal():
    assert max(map(len, Section("title", words=["word " * 80]).text(500).splitlines())) <= 118


@pytest.mark.parametrize("seed", range(40))
def test_any_table_fits_any_terminal_and_nothing_of_it_is_lost(seed: int):
    rng = generator(seed, "tables")

    def cell() -> str:
        return " ".join("x" * int(n) for n in rng.integers(1, 14, int(rng.choice([0, 1, 1, 2, 9]))))

    rows = [[cell() for _ in range(int(rng.integers(1, 15)))]]
    rows += [[cell() for _ in rows[0]] for _ in range(int(rng.integers(0, 5)))]
    columns = int(rng.integers(36, 200))
    text = Section("title " * 9, rows, (0, 3), ["words " * 30]).text(columns)
    assert max(map(len, text.splitlines())) <= columns
    once = sum(c.count("x") for row in rows for c in row[1:])
    blocks = text.count("\n\n") + 1
    assert text.count("x") == once + blocks * sum(row[0].count("x") for row in rows)


def test_a_table_of_nothing_is_its_title():
    assert Section("title").text(80) == "title"


def test_figures_as_text():
    assert between([1.0, 2.5], 1, " %") == "1.0..2.5 %"
    assert between([1.01, 1.02], 1) == "1.0"
    assert [count(n, "rank") for n in (1, 2, 1024)] == ["1 rank", "2 ranks", "1,024 ranks"]
