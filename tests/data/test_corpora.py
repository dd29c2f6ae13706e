import gzip
import hashlib
import os
import platform
import zipfile

import pytest

from dist_llm.config import DataConfig
from dist_llm.data import corpora, download, find_corpus
from dist_llm.errors import UserError
from tests.data.spooled import Text, read_corpus, write


def read(path, **settings) -> Text:
    return read_corpus(find_corpus(DataConfig(path=str(path), **settings)))


def corpus_key(config: DataConfig) -> str:
    return find_corpus(config).key


def test_a_file_is_one_document_exactly_as_it_is(tmp_path):
    text = "\n\n first\r\nsecond\rthird \u2028 é 😀\n\n"
    path = write(tmp_path / "my notes.txt", text)
    assert read(path).documents == [text]
    assert find_corpus(DataConfig(path=str(path))).name == "my notes"
    assert read(path).description == str(path)


def test_the_mark_of_windows_is_no_text(tmp_path):
    assert read(write(tmp_path / "a.txt", "\ufeffabc\r\n")).documents == ["abc\r\n"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_separator_line_divides_documents(tmp_path, newline):
    text = "\n<|endoftext|>\nOne.\n\nMore of one.\n<|endoftext|>\n  Two\n<|endoftext|>\n \n<|endoftext|>\nThree"
    path = write(tmp_path / "stories.txt", text.replace("\n", newline))
    assert read(path).documents == [f"One.{newline}{newline}More of one.", "  Two", "Three"]


def test_a_separator_inside_a_line_is_text(tmp_path):
    text = "what <|endoftext|> means\n"
    assert read(write(tmp_path / "a.txt", text)).documents == [text]


def test_a_folder_gives_its_visible_files_in_order(tmp_path):
    folder = tmp_path / "books"
    write(folder / "b.txt", "2\n")
    write(folder / "a" / "z.md", "1\n")
    write(folder / "c", "3\n<|endoftext|>\n4\n")
    write(folder / ".hidden", "no")
    write(folder / ".git" / "config", "no")
    write(folder / "empty.txt", " \n")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    assert find_corpus(DataConfig(path=str(folder))).name == "books"
    assert read(folder).documents == ["1\n", "2\n", "3", "4"]
    assert read(folder).description == f"{folder}, 4 files, 1 skipped that are not UTF-8 text"


def test_the_part_of_a_skipped_file_before_the_bad_byte_is_not_read_either(tmp_path):
    write(tmp_path / "a.txt", "good")
    (tmp_path / "b.txt").write_bytes(b"story\n<|endoftext|>\n" * 10_000 + b"\xff")
    assert read(tmp_path).documents == ["good"]


def test_a_home_directory_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.txt", "abc")
    assert read("~/a.txt").documents == ["abc"]
    assert corpus_key(DataConfig(path="~/a.txt")).startswith(str(tmp_path.resolve() / "a.txt"))


def test_a_file_that_is_not_utf8_is_an_error(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("é".encode("latin1"))
    with pytest.raises(UserError, match=rf"{path} is not UTF-8 text: convert it first, e.g. iconv"):
        read(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match=rf"no file or folder {tmp_path / 'no'}: correct --data.path"):
        find_corpus(DataConfig(path=str(tmp_path / "no")))


def test_a_corpus_without_text_is_an_error(tmp_path):
    path = write(tmp_path / "texts" / "a.txt", "\n \n")
    with pytest.raises(UserError, match=rf"{path} holds no text: name a UTF-8 file"):
        read(path)
    (tmp_path / "texts" / "b").write_bytes(b"\xff")
    with pytest.raises(UserError, match=rf"{tmp_path / 'texts'} holds no text \(1 files are not UTF-8 text\)"):
        read(tmp_path / "texts")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_an_error(tmp_path):
    path = write(tmp_path / "a.txt", "abc")
    path.chmod(0)
    with pytest.raises(UserError, match=rf"cannot read {path} \(Permission denied\)"):
        read(path)


def test_files_of_every_form_in_one_folder(tmp_path):
    write(tmp_path / "a.jsonl", '{"text": "a1"}\n{"text": "a2"}\n')
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"b1\n<|endoftext|>\nb2\n"))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"text": "c1"}'))
    write(tmp_path / "d.txt", "d1")
    write(tmp_path / "e.json", '{\n  "indented": 1\n}')
    (tmp_path / "f.txt").write_bytes(gzip.compress(b"f1"))
    text = read(tmp_path)
    assert text.documents == ["a1", "a2", "b1", "b2", "c1", "d1"]
    skipped = "1 skipped that are not JSON Lines, 1 skipped that are gzip by content"
    assert text.description == f"{tmp_path}, 4 files, {skipped}"
    assert read(tmp_path / "*.jsonl*").documents == ["a1", "a2", "c1"]
    assert find_corpus(DataConfig(path=f"{tmp_path}/*.jsonl*")).name == tmp_path.name[:40]
    assert find_corpus(DataConfig(path=f"{tmp_path}/c.jsonl.gz")).name == "c"


def test_the_advice_for_a_packed_file_is_not_to_convert_it(tmp_path):
    (tmp_path / "a.txt").write_bytes(gzip.compress(b"text"))
    with pytest.raises(UserError, match=r"a.txt is gzip by content: rename it to a.txt.gz$"):
        read(tmp_path / "a.txt")
    with pytest.raises(UserError, match=r"b.json is not JSON Lines \(line 1 is no JSON object\): write each record"):
        read(write(tmp_path / "b.json", "[1]"))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"text": "\xe9"}'))
    with pytest.raises(UserError, match=r"c.jsonl.gz is not UTF-8 text: "):
        read(tmp_path / "c.jsonl.gz")


def test_json_lines_are_not_trained_on_as_text_even_in_a_folder(tmp_path):
    write(tmp_path / "a.txt", "text")
    write(tmp_path / "b.txt", '{"text": "1"}\n{"text": "2"}\n')
    with pytest.raises(UserError, match=r"b.txt holds a JSON object on each line"):
        read(tmp_path)


def test_several_sources_with_weights(tmp_path):
    a, b = write(tmp_path / "a.txt", "a1"), write(tmp_path / "b.jsonl", '{"content": "b1"}')
    corpus = find_corpus(DataConfig(path=f"{a}:3,{b}", field="content"))
    assert (corpus.name, corpus.weights) == ("a+1", (3.0, 1.0))
    assert read_corpus(corpus) == (["a1", "b1"], f"{a}:3; {b}")
    keys = [corpus_key(DataConfig(path=path)) for path in (f"{a}:3,{b}", f"{a},{b}", f"{b},{a}", f"{a}:3", str(a))]
    assert len({corpus.key, *keys}) == 6
    with pytest.raises(UserError, match=rf"{tmp_path}/empty.txt holds no text"):
        read(f"{a},{write(tmp_path / 'empty.txt', ' ')}")


def test_the_key_of_files_follows_every_change(tmp_path):
    write(tmp_path / "a.txt", "abc")
    write(tmp_path / "b.txt", "abc")
    config = DataConfig(path=str(tmp_path))
    keys = [corpus_key(config), corpus_key(config)]
    assert len(set(keys)) == 1
    stat = (tmp_path / "b.txt").stat()
    write(tmp_path / "b.txt", "abcd")
    os.utime(tmp_path / "b.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    keys.append(corpus_key(config))  # another size
    os.utime(tmp_path / "b.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    keys.append(corpus_key(config))  # another time
    write(tmp_path / "c.txt", "")
    keys.append(corpus_key(config))  # another file
    assert len(set(keys)) == 4


def test_the_key_does_not_depend_on_how_the_path_is_written(tmp_path, monkeypatch):
    write(tmp_path / "a.txt", "abc")
    monkeypatch.chdir(tmp_path)
    assert corpus_key(DataConfig(path="a.txt")) == corpus_key(DataConfig(path=str(tmp_path / "a.txt")))


def test_the_keys_of_named_corpora(monkeypatch):
    assert corpus_key(DataConfig()) == f"python-docs {platform.python_version()}"
    shakespeare = corpus_key(DataConfig(corpus="tinyshakespeare"))
    assert shakespeare.startswith("tinyshakespeare 86c4e6aa")
    assert shakespeare != corpus_key(DataConfig(corpus="tinystories"))


def test_a_named_corpus_is_downloaded_once(tmp_path, monkeypatch):
    text = b"Once.\n<|endoftext|>\nTwice.\n"
    remote = download.Remote("http://nowhere/x.txt", len(text), hashlib.sha256(text).hexdigest(), "two stories", "CC0")
    asked = []

    def fake_download(url, path, sha256, size, progress):
        asked.append((url, sha256, size, progress))
        path.parent.mkdir(parents=True)
        path.write_bytes(text)

    monkeypatch.setitem(corpora.REMOTES, "tinystories", remote)
    monkeypatch.setattr(corpora, "download", fake_download)
    config = DataConfig(corpus="tinystories", cache_dir=str(tmp_path / "cache"))
    corpus, expected = find_corpus(config), Text(["Once.", "Twice."], "two stories")
    told = []
    assert corpus.name == "tinystories"
    assert read_corpus(corpus, True, told.append) == expected
    assert read_corpus(corpus, False, told.append) == expected
    assert told == [f"downloading http://nowhere/x.txt: 0.0 MB, sha256 {remote.sha256}, licence: CC0"]
    assert asked == [(remote.url, remote.sha256, len(text), True)]


def test_a_named_corpus_in_an_archive(tmp_path, monkeypatch):
    archive = tmp_path / "downloads" / f"{'0' * 8}-wiki.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("train", " \n = Ada = \n \n text\n = Grace = \n")
    remote = download.Remote("http://nowhere/wiki.zip", 0, "0" * 64, "wiki", "CC0", "train", download.WIKITEXT_HEADING)
    monkeypatch.setitem(corpora.REMOTES, "wikitext-2", remote)
    corpus = find_corpus(DataConfig(corpus="wikitext-2", cache_dir=str(tmp_path)))
    assert read_corpus(corpus) == Text([" = Ada = \n \n text\n", " = Grace = \n"], "wiki")


def test_every_choice_of_the_configuration_is_known():
    choices = DataConfig.__dataclass_fields__["corpus"].metadata["choices"]
    assert set(choices) == {"python-docs", *corpora.REMOTES}
