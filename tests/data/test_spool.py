import hashlib
import random
from itertools import pairwise

import pytest

from dist_llm.data import spool as spool_module
from dist_llm.data.documents import Part
from dist_llm.data.spool import TABLE, Documents, Spool, checksums
from dist_llm.text.seams import SEAM
from tests.data.spooled import all_texts, spooled

TEXTS = ["One.\n", "  zwei 中\r\n", "\ud800 half a pair", "😀" * 3]


def in_parts(rng: random.Random, text: str, divided: bool) -> list[Part]:
    cuts = sorted(rng.choices(range(len(text) + 1), k=rng.randrange(5)))
    ends = [*cuts, len(text)]
    return [
        Part(text[start:end], end_at == len(ends) - 1, divided and end_at == len(ends) - 1)
        for end_at, (start, end) in enumerate(zip([0, *cuts], ends, strict=True))
    ]


def test_what_is_written_is_read(tmp_path):
    with spooled(tmp_path, TEXTS) as documents:
        assert len(documents) == len(TEXTS)
        assert all_texts(documents) == TEXTS
        assert documents.column("n_chars").tolist() == list(map(len, TEXTS))
        digests = [hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest() for text in TEXTS]
        halves = zip(documents.column("high").tolist(), documents.column("low").tolist(), strict=True)
        assert [f"{high:016x}{low:016x}" for high, low in halves] == [digest[:32] for digest in digests]


@pytest.mark.parametrize("seed", range(60))
def test_a_document_in_parts_is_the_document(tmp_path, seed):
    rng = random.Random(seed)
    texts = ["".join(rng.choices("a \n\r\té\u3000", k=rng.randrange(30))) for _ in range(8)]
    divided = bool(seed % 2)
    expected = [text.strip("\r\n") if divided else text for text in texts]
    with Spool(tmp_path) as spool:
        for text in texts:
            for part in in_parts(rng, text, divided):
                spool.add(part)
    with Documents(tmp_path) as documents, spooled(tmp_path / "whole", expected) as whole:
        assert all_texts(documents) == [text for text in expected if text.strip()]
        for name in ("high", "low", "n_chars", "n_bytes"):
            assert documents.column(name).tolist() == whole.column(name).tolist()


def test_documents_are_forgotten_back_to_a_mark(tmp_path):
    with Spool(tmp_path) as spool:
        spool.add(Part("first"))
        mark = spool.mark()
        spool.add(Part("second"))
        spool.add(Part("half of the third", last=False))
        spool.go_back(mark)
        assert spool.mark() == mark
        spool.add(Part("fourth"))
    with Documents(tmp_path) as documents:
        assert all_texts(documents) == ["first", "fourth"]


def test_columns_of_a_long_table(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "RECORDS_AT_ONCE", 7)
    texts = [f"document {i}" for i in range(30)]
    with spooled(tmp_path, texts, [i % 3 for i in range(30)]) as documents:
        assert documents.column("source").tolist() == [i % 3 for i in range(30)]
        assert {documents.column(name).dtype for name in ("high", "n_chars")} == {TABLE["high"]}


def test_checksums_tell_every_change(tmp_path):
    spooled(tmp_path, TEXTS).__exit__()
    before = checksums(tmp_path)
    assert before == checksums(tmp_path)
    for name in before:
        path = tmp_path / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert checksums(tmp_path)[name] != before[name]
        path.write_bytes(content)


@pytest.mark.parametrize("size", [5, 64, 1000, 5000, 10**6])
@pytest.mark.parametrize("words", [["word", "中文", "été", "123", "!?"], ["中。", "文\n"], ["😀"]])
def test_a_long_text_is_cut_at_seams(tmp_path, size, words, monkeypatch):
    monkeypatch.setattr(spool_module, "LONGEST", 1 << 12)
    rng = random.Random(size)
    gap = "" if words == ["😀"] else " "
    text = gap.join(rng.choices(words, k=25_000))
    with spooled(tmp_path, ["before", text, "after"]) as documents:
        start = int(documents.column("start")[1])
        stop = start + len(text.encode())
        parts = list(documents.cut(start, stop, size))
        assert [parts[0][0], *(end for _, end in parts)] == [*(begin for begin, _ in parts), stop]
        texts = [documents.read(*part) for part in parts]
        assert "".join(texts) == text
        if gap:
            assert all(SEAM.search(left[-1] + right[0]) for left, right in pairwise(texts))
            assert max(map(len, texts)) < size + 100
        assert max(len(part.encode()) for part in texts) <= size + (16 << 12)


def test_characters_are_counted_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "BLOCK", 5)
    text = "aé中😀" * 10
    with spooled(tmp_path, ["x", text]) as documents:
        start = int(documents.column("start")[1])
        for n in range(len(text) + 1):
            assert documents.after_chars(start, n) == start + len(text[:n].encode())
