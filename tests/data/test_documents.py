"""The documents of files of every form, in blocks of every size."""

import gzip
import json
import random
import zipfile

import pytest

from dist_llm.data import documents as documents_module
from dist_llm.data import opening
from dist_llm.data.documents import SEPARATOR, is_json_lines, read_documents
from dist_llm.data.download import WIKITEXT_HEADING
from dist_llm.data.opening import OtherFormatError
from dist_llm.data.spool import Documents, Spool
from dist_llm.errors import UserError
from tests.data.spooled import all_texts


def documents(path, field="text", **of_archive):
    folder = path.parent / "spool"
    folder.mkdir(exist_ok=True)
    with Spool(folder) as spool:
        for part in read_documents(path, field, **of_archive):
            spool.add(part)
    with Documents(folder) as written:
        return all_texts(written)


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def plain_documents(text):
    """What read_documents does, line by line and all at once."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\r\n\0").replace("\n", "\n\0").replace("\r\n\0\0", "\r\n\0")
    texts, document, divided = [], "", False
    for line in lines.replace("\r", "\r\0").replace("\r\0\n", "\r\n").split("\0"):
        if line.strip() == SEPARATOR:
            divided = True
            texts.append(document)
            document = ""
        else:
            document += line
    texts.append(document)
    texts = [text.strip("\r\n") for text in texts] if divided else texts
    return [text for text in texts if text.strip()]


@pytest.mark.parametrize("block", [1, 3, 16, 1 << 20])
def test_headings_begin_the_documents_of_an_archive(tmp_path, monkeypatch, block):
    articles = [
        " = Ada = \n \n A line . \n = = Life = = \n More . \n",
        " = Grace Hopper = \n \n a = b \n",
        " = é = \nend",
    ]
    with zipfile.ZipFile(tmp_path / "wiki.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("raw/train", " \n" + "".join(articles))
        archive.writestr("raw/test", "another text")
    monkeypatch.setattr(opening, "BLOCK_BYTES", block)
    monkeypatch.setattr(documents_module, "BLOCK_BYTES", block)
    assert documents(tmp_path / "wiki.zip", member="raw/train", heading=WIKITEXT_HEADING) == articles
    assert documents(tmp_path / "wiki.zip", member="raw/test", heading=WIKITEXT_HEADING) == ["another text"]
    assert documents(tmp_path / "wiki.zip", member="raw/train") == [" \n" + "".join(articles)]


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("block", [1, 3, 16, 1 << 20])
def test_separators_are_found_in_blocks_of_any_size(tmp_path, monkeypatch, seed, block):
    rng = random.Random(seed)
    pieces = [
        SEPARATOR,
        "\n",
        "\r\n",
        "\r",
        " ",
        "\t",
        "é",
        "word",
        "中\u2028",
        "<|endof",
        SEPARATOR + "\n",
        "\n" + SEPARATOR,
    ]
    text = "".join(rng.choices(pieces, k=rng.randrange(30)))
    if 1 < block < 30 and any(len(line) >= block for line in text.splitlines()):
        text = text.replace(" ", "").replace("\t", "")  # a separator among a block of spaces is not looked for
    monkeypatch.setattr(opening, "BLOCK_BYTES", block)
    monkeypatch.setattr(documents_module, "BLOCK_BYTES", max(block, 64))
    assert documents(write(tmp_path / "a.txt", text)) == plain_documents(text)


def test_a_line_longer_than_a_block_is_no_separator_and_stays_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "BLOCK_BYTES", 64)
    monkeypatch.setattr(documents_module, "BLOCK_BYTES", 64)
    for text in ("x" * 200 + SEPARATOR + "\ny", "x" * 64 + SEPARATOR + "\ny", "x\n" + "y" * 500):
        assert documents(write(tmp_path / "a.txt", text)) == [text]


def test_a_record_is_a_document_exactly_as_it_is(tmp_path):
    texts = ["One.\n", "  two \r\n\r\n", "三 😀", f"a\n{SEPARATOR}\nb", "\ud800 half", "\u2028"]
    lines = [json.dumps({"id": 1, "text": text, "more": {"text": "no"}}) for text in [*texts[:-1], "", " \n"]]
    path = write(tmp_path / "a.jsonl", "\ufeff" + "\r\n".join(lines) + "\n\n  \n")
    assert documents(path) == texts[:-1]
    path = write(tmp_path / "a.ndjson", "\n".join(json.dumps({"story": text, "text": 3}) for text in texts[:3]))
    assert documents(path, "story") == texts[:3]


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_records_in_blocks_of_any_size(tmp_path, monkeypatch, block):
    monkeypatch.setattr(opening, "BLOCK_BYTES", block)
    texts = [f"text {i} é" * (i % 5) for i in range(50)]
    path = write(tmp_path / "a.json", "\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts))
    assert documents(path) == [text for text in texts if text]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("a.jsonl", True),
        ("a.JSON", True),
        ("a.ndjson.gz", True),
        ("a.jsonl.zst", True),
        ("a.txt", False),
        ("a.gz", False),
    ],
)
def test_the_name_says_whether_it_is_json_lines(tmp_path, name, answer):
    assert is_json_lines(tmp_path / name) == answer


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"texts": "a", "n": 1}', r"line 2 of \S+a.jsonl has no text in the field 'text': .*--data.field .*'texts'\)"),
        ('{"text": null}', r"line 2 of .* has no text in the field 'text'"),
        ('{"text": 3}', r"line 2 of .* has no text in the field 'text'"),
    ],
)
def test_a_record_without_text_is_told(tmp_path, line, message):
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n' + line)
    with pytest.raises(UserError, match=message):
        documents(path)


@pytest.mark.parametrize(
    "content", ['{"text": "a"}\nplain', '[{"text": "a"}]', '{\n "text": "a"\n}', "7", '{"text": "a"', "[" * 9999]
)
def test_what_is_called_json_lines_and_is_not_is_told(tmp_path, content):
    with pytest.raises(OtherFormatError) as error:
        documents(write(tmp_path / "a.json", content))
    assert error.value.what == "not JSON Lines"
    assert error.value.where.startswith("line ")
    assert "jq -c" in error.value.advice


def test_a_record_longer_than_can_be_held_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(documents_module, "LONGEST_RECORD", 1 << 20)
    with pytest.raises(UserError, match=r"a line of \S+ is longer than 1 MiB"):
        documents(write(tmp_path / "a.jsonl", '{"text": "' + "a" * (3 << 20) + '"}'))


RECORDS = '\n{"text": "One."}\n\n{"text": "Two."}\n{"text'


@pytest.mark.parametrize("name", ["a.txt", "a.md", "noname", "a.txt.gz"])
def test_json_lines_by_another_name_are_refused(tmp_path, name):
    content = gzip.compress(RECORDS.encode()) if name.endswith(".gz") else RECORDS
    right = {"noname": "noname.jsonl", "a.txt.gz": "a.jsonl.gz"}.get(name, "a.jsonl")
    with pytest.raises(
        UserError, match=rf"{name} holds a JSON object on each line.*rename it to {right} .*--data.field"
    ):
        documents(write(tmp_path / name, content))
    with pytest.raises(UserError, match=r"a JSON object on each line"):
        documents(write(tmp_path / "one.txt", '{"text": "the only record"}'))


@pytest.mark.parametrize(
    "text", ["{a}\n{b}", '{"a": 1}\nand prose', "{", "[1]\n[2]", "{}x", '{"a": 1\n}\n', "{" * 9999]
)
def test_prose_with_braces_is_text(tmp_path, text):
    assert documents(write(tmp_path / "a.txt", text)) == [text]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
@pytest.mark.parametrize("bad", ["é".encode("latin1"), b'{"text": "\xff"}', "é".encode()[:1]])
def test_what_is_not_utf8_is_told(tmp_path, name, bad):
    content = (b"good\n" if name == "a.txt" else b'{"text": "good"}\n') + bad
    with pytest.raises(OtherFormatError) as error:
        documents(write(tmp_path / name, content))
    if name == "a.txt":
        assert (error.value.what, error.value.advice[:23]) == ("not UTF-8 text", "convert it first, e.g. ")
