"""Texts to shards: the same whatever the units, the parts and the number of processes."""

import numpy as np
import pytest

from dist_llm.data import encoding
from dist_llm.data import spool as spool_module
from dist_llm.data.encoding import encode
from dist_llm.data.shards import TokenShards
from dist_llm.data.split import Slices
from dist_llm.data.workers import Workers
from dist_llm.text import save_tokenizer, seams, train_tokenizer
from tests.data.spooled import spooled
from tests.text.samples import PROSE

TEXTS = [PROSE[:5000], "short", PROSE[5000:5300], "中文 " * 700, "é", *PROSE[6000:9000].split("\n\n")]


def all_of(documents) -> Slices:
    starts, n_bytes = documents.column("start"), documents.column("n_bytes")
    return Slices(np.arange(len(starts)), starts, starts + n_bytes, int(documents.column("n_chars").sum()))


def encoded(folder, tokenizer, texts=TEXTS, n_workers=1, shown=False):
    with spooled(folder, texts) as documents, Workers(n_workers) as workers:
        save_tokenizer(tokenizer, folder)
        encode(folder, "train", all_of(documents), documents, tokenizer, workers, shown)
    shards = TokenShards(folder, "train")
    shards.verify()
    return shards


def expected(tokenizer, texts=TEXTS) -> list[int]:
    end = [] if tokenizer.eot_id is None else [tokenizer.eot_id]
    return [i for text in texts for i in [*tokenizer.encode(text).tolist(), *end]]


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
@pytest.mark.parametrize(("unit", "part"), [(1 << 24, 1 << 20), (1000, 1 << 20), (1 << 24, 300), (700, 200), (1, 1)])
def test_tokens_do_not_depend_on_units_and_parts(tmp_path, monkeypatch, kind, unit, part):
    tokenizer = train_tokenizer(kind, TEXTS, 400)
    monkeypatch.setattr(encoding, "UNIT_BYTES", unit)
    monkeypatch.setattr(encoding, "PART_CHARS", part)
    shards = encoded(tmp_path, tokenizer)
    assert shards.read(0, len(shards)).tolist() == expected(tokenizer)
    assert shards.n_bytes == sum(len(text.encode()) for text in TEXTS)
    n_files = len(list(tmp_path.glob("train-*.bin")))
    assert n_files == 1 if unit == 1 << 24 else n_files > 5


def test_a_unit_has_the_size_it_should(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "UNIT_BYTES", 1000)
    tokenizer = train_tokenizer("byte", [], 0)
    encoded(tmp_path, tokenizer, ["word " * 2000, *["x" * 10] * 500])
    sizes = [len(TokenShards(path.parent, path.stem[:5])) for path in tmp_path.glob("train-00000.bin")]
    lengths = [(path.stat().st_size - 128) // 2 for path in sorted(tmp_path.glob("train-*.bin"))]
    assert sum(lengths) == sizes[0] == 10_000 + 1 + 500 * 11
    assert all(1000 <= length <= 1200 for length in lengths[:-1])


def test_a_text_without_a_seam_is_cut_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "UNIT_BYTES", 5000)
    monkeypatch.setattr(spool_module, "LONGEST", 1 << 10)
    monkeypatch.setattr(encoding, "PART_CHARS", 1 << 10)
    monkeypatch.setattr(seams, "LONGEST", 1 << 10)
    tokenizer = train_tokenizer("bpe", TEXTS, 400)
    text = "é😀" * 10_000
    shards = encoded(tmp_path, tokenizer, [text])
    assert tokenizer.decode(shards.read(0, len(shards) - 1)) == text


def test_the_shards_are_the_same_for_any_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "UNIT_BYTES", 900)
    tokenizer = train_tokenizer("bpe", TEXTS, 400)
    for n in (1, 2, 3):
        encoded(tmp_path / str(n), tokenizer, n_workers=n)
    files = {n: sorted((tmp_path / str(n)).glob("train-*.bin")) for n in (1, 2, 3)}
    assert len(files[1]) > 5
    for n in (2, 3):
        assert [file.name for file in files[n]] == [file.name for file in files[1]]
        assert [file.read_bytes() for file in files[n]] == [file.read_bytes() for file in files[1]]


def test_whole_shards_are_kept_and_others_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "UNIT_BYTES", 900)
    tokenizer = train_tokenizer("bpe", TEXTS, 400)
    encoded(tmp_path, tokenizer)
    paths = sorted(tmp_path.glob("train-*.bin"))
    contents = [path.read_bytes() for path in paths]
    paths[1].unlink()
    paths[2].write_bytes(contents[2][:-1])
    paths[3].write_bytes(contents[3][:-1] + b"\xff")
    made = []
    write = encoding.write_shard
    monkeypatch.setattr(encoding, "write_shard", lambda path, *args: made.append(path) or write(path, *args))
    encoded(tmp_path, tokenizer)
    assert made == paths[1:4]
    assert [path.read_bytes() for path in paths] == contents


def test_no_texts_are_one_empty_shard(tmp_path):
    assert len(encoded(tmp_path, train_tokenizer("byte", [], 0), [])) == 0


def test_progress_is_shown_only_when_asked_for(tmp_path, capfd, monkeypatch):
    tokenizer = train_tokenizer("byte", [], 0)
    encoded(tmp_path, tokenizer)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr("dist_llm.data.progress.LINE_EVERY_S", 0.0)
    encoded(tmp_path / "shown", tokenizer, shown=True)
    assert "encoding train: 100% of 0 MB" in capfd.readouterr().err
