import dataclasses
import json
import shutil
import threading
from collections import Counter

import pytest

from dist_llm.config import DataConfig
from dist_llm.data import corpora, encoding, open_data, preparation, prepare, vocabulary
from dist_llm.errors import UserError
from dist_llm.text import bpe_training, char
from tests.data.stories import STORIES, cached, contents
from tests.oracles.split_plain import split_documents


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_a_prepared_folder_gives_the_split_back(config, kind):
    folder = prepare(dataclasses.replace(config, tokenizer=kind))
    assert cached(config) == [folder.name]
    assert folder.name.startswith(f"stories-{kind}-")
    assert sorted(p.name for p in folder.iterdir()) == [
        "meta.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "train-00000.bin",
        "val-00000.bin",
    ]
    tokenizer, *shards = open_data(folder)
    assert tokenizer.kind == kind
    parts = split_documents([story.strip("\n") for story in STORIES], 0.1)
    meta = json.loads((folder / "meta.json").read_text())
    for split, documents, tokens in zip(("train", "val"), parts, shards, strict=True):
        tokens.verify()
        end = "" if tokenizer.eot_id is None else "<|endoftext|>"
        assert tokenizer.decode(tokens.read(0, len(tokens))) == "".join(text + end for text in documents)
        assert meta["documents"][split] == len(documents)
        assert meta["characters"][split] == sum(map(len, documents))
        assert meta["bytes"][split] == tokens.n_bytes == sum(len(text.encode()) for text in documents)
        assert meta["tokens"][split] == len(tokens)
    assert meta["corpus"] == "stories"
    assert meta["description"] == config.path
    assert meta["key"].startswith(folder.name[-12:])
    assert meta["seconds"] >= 0


def test_python_docs_by_default(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "python_docs", lambda progress: STORIES)
    folder = prepare(DataConfig(cache_dir=str(tmp_path)))
    assert folder.name.startswith("python-docs-bpe-")


def test_a_prepared_folder_is_found_again(config, monkeypatch):
    folder = prepare(config)
    monkeypatch.setattr(preparation, "_make", None)
    assert prepare(config) == folder


def test_every_setting_that_matters_makes_another_folder(config, tmp_path):
    changes = [
        {},
        {"tokenizer": "byte"},
        {"tokenizer": "char"},
        {"vocab_size": 280},
        {"val_fraction": 0.2},
    ]
    folders = [prepare(dataclasses.replace(config, **change)) for change in changes]
    (tmp_path / "stories.txt").write_text("Another text altogether.")
    folders.append(prepare(config))
    assert len(set(folders)) == 6
    # The size of a vocabulary is chosen for BPE only.
    byte = dataclasses.replace(config, tokenizer="byte")
    assert prepare(byte) == prepare(dataclasses.replace(byte, vocab_size=999))


def test_merges_are_learned_from_the_training_part_alone(config, monkeypatch):
    seen = {}
    train_tokenizer = vocabulary.train_tokenizer

    def spy(kind, texts, *args):
        seen[kind] = list(texts)
        return train_tokenizer(kind, seen[kind], *args)

    monkeypatch.setattr(vocabulary, "train_tokenizer", spy)
    train, val = split_documents([story.strip("\n") for story in STORIES], 0.1)
    prepare(config)
    prepare(dataclasses.replace(config, tokenizer="char"))
    assert seen == {"bpe": train, "char": train + val}


def test_merges_are_learned_from_all_sources_of_a_long_text(config, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("<|endoftext|>\n".join(f"aaa {i}\n" for i in range(300)))
    (tmp_path / "b.txt").write_text("<|endoftext|>\n".join(f"bbb {i}\n" for i in range(300)))
    monkeypatch.setattr(bpe_training, "TRAINING_CHARS", 1000)
    config = dataclasses.replace(config, path=f"{tmp_path}/a.txt,{tmp_path}/b.txt")
    assert {b"aaa", b"bbb"} <= set(open_data(prepare(config)).tokenizer.token_bytes)


def test_a_character_seen_only_in_validation_can_be_encoded(tmp_path):
    (tmp_path / "text.txt").write_text("abc" * 30 + "z" * 10)
    folder = prepare(DataConfig(path=str(tmp_path / "text.txt"), tokenizer="char", cache_dir=str(tmp_path / "cache")))
    tokenizer, train, val = open_data(folder)
    assert tokenizer.decode(train.read(0, len(train))) == "abc" * 30
    assert tokenizer.decode(val.read(0, len(val))) == "z" * 10


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_the_folder_is_the_same_for_any_number_of_workers(config, monkeypatch, kind, tmp_path):
    monkeypatch.setattr(encoding, "UNIT_BYTES", 200)
    monkeypatch.setattr(bpe_training, "BATCH_CHARS", 150)
    monkeypatch.setattr(char, "BATCH_CHARS", 150)
    folders = []
    for n in (1, 2, 3):
        there = dataclasses.replace(config, tokenizer=kind, cache_dir=str(tmp_path / str(n)))
        folders.append(prepare(there, n_workers=n))
    assert contents(folders[0]) == contents(folders[1]) == contents(folders[2])
    assert len(list(folders[0].glob("train-*.bin"))) > 3


def test_sources_with_weights(tmp_path):
    (tmp_path / "a.txt").write_text("<|endoftext|>\n".join(f"a story {i}\n" for i in range(200)))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": f"record {i}"}) + "\n" for i in range(200)))
    config = DataConfig(path=f"{tmp_path}/a.txt:2,{tmp_path}/b.jsonl:0.5", cache_dir=str(tmp_path), tokenizer="byte")
    folder = prepare(config)
    tokenizer, train, val = open_data(folder)
    texts = tokenizer.decode(train.read(0, len(train))).split("<|endoftext|>")[:-1]
    held_out = tokenizer.decode(val.read(0, len(val))).split("<|endoftext|>")[:-1]
    counts = Counter(text.split()[0] for text in texts if text in set(texts))
    assert counts["a"] == pytest.approx(2 * 180, rel=0.1)
    assert counts["record"] == pytest.approx(0.5 * 180, rel=0.25)
    assert 30 < len(held_out) == len(set(held_out)) < 50
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["documents"] == {"train": len(texts), "val": len(held_out)}
    assert meta["characters"] == {"train": sum(map(len, texts)), "val": sum(map(len, held_out))}
    assert meta["description"] == f"{tmp_path}/a.txt:2; {tmp_path}/b.jsonl:0.5"


def test_two_preparations_at_once_do_not_harm_each_other(config, monkeypatch):
    both = threading.Barrier(2)
    write = preparation._write

    def write_together(*args):
        write(*args)
        both.wait(timeout=30)

    monkeypatch.setattr(preparation, "_write", write_together)
    folders = []
    threads = [threading.Thread(target=lambda: folders.append(prepare(config))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 2
    assert folders[0] == folders[1]
    assert cached(config) == [folders[0].name]
    open_data(folders[0])


def test_the_first_of_two_preparations_wins(config, monkeypatch, tmp_path):
    folder = prepare(config)
    (folder / "mark").write_text("of the winner")
    folder.rename(tmp_path / "winner")
    write = preparation._write

    def write_and_lose(*args):
        write(*args)
        (tmp_path / "winner").rename(folder)

    monkeypatch.setattr(preparation, "_write", write_and_lose)
    assert prepare(config) == folder
    assert (folder / "mark").exists()
    assert cached(config) == [folder.name]


def test_a_folder_for_the_shards_can_be_named(config, tmp_path):
    named = dataclasses.replace(config, shards=str(tmp_path / "deep" / "mine"))
    folder = prepare(named)
    assert folder == tmp_path / "deep" / "mine"
    open_data(folder)
    assert cached(config) == []
    # What it holds wins over the other settings, and the corpus is not looked for.
    assert prepare(dataclasses.replace(named, path="gone.txt", vocab_size=999, val_fraction=0.5)) == folder


def test_shards_of_another_kind_of_tokenizer_are_an_error(config, tmp_path):
    named = dataclasses.replace(config, shards=str(tmp_path / "mine"), tokenizer="char")
    prepare(named)
    with pytest.raises(UserError) as error:
        prepare(dataclasses.replace(named, tokenizer="bpe"))
    assert str(error.value) == (
        f"the shards in {tmp_path / 'mine'} were made with --data.tokenizer=char, not bpe: "
        "say --data.tokenizer=char, or name another folder with --data.shards"
    )


def test_a_folder_of_something_else_is_an_error_and_stays(config, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("dear")
    with pytest.raises(UserError, match=r"thesis holds no prepared shards \(no meta.json\): name one that does"):
        prepare(dataclasses.replace(config, shards=str(tmp_path / "thesis")))
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["chapter1.txt"]


@pytest.mark.parametrize(("field", "option"), [("cache_dir", "--data.cache_dir"), ("shards", "--data.shards")])
def test_a_place_that_cannot_be_written_is_an_error(config, tmp_path, field, option):
    (tmp_path / "file").write_text("in the way")
    bad = dataclasses.replace(config, **{field: str(tmp_path / "file" / "below")})
    with pytest.raises(UserError, match=rf"cannot write prepared shards to {tmp_path}/file.* with {option}$"):
        prepare(bad)


def test_a_text_too_short_to_split_is_an_error(config, tmp_path):
    (tmp_path / "stories.txt").write_text("ab")
    with pytest.raises(UserError, match=r"stories has 2 characters, and with --data.val_fraction=0.9 none is left to"):
        prepare(dataclasses.replace(config, val_fraction=0.9))
    assert cached(config) == []


def test_a_missing_text_is_an_error_that_leaves_nothing(config):
    with pytest.raises(UserError, match=r"correct --data.path"):
        prepare(dataclasses.replace(config, path="gone.txt"))
    assert cached(config) == []


def test_parts_that_do_not_belong_together_are_an_error(config, tmp_path):
    folder = prepare(config)
    other = prepare(dataclasses.replace(config, vocab_size=290))
    shutil.copy(other / "val-00000.bin", folder / "val-00000.bin")
    with pytest.raises(UserError, match=r"the val shards in .* by another tokenizer .* prepare it again"):
        open_data(folder)
    shutil.copy(other / "tokenizer.json", folder / "tokenizer.json")
    with pytest.raises(UserError, match=r"the train shards in .* by another tokenizer .* prepare it again"):
        open_data(folder)


def test_a_missing_last_shard_is_noticed(config, monkeypatch):
    monkeypatch.setattr(encoding, "UNIT_BYTES", 100)
    folder = prepare(config)
    open_data(folder)
    max(folder.glob("train-*.bin")).unlink()
    with pytest.raises(UserError, match=rf"{folder} holds [\d,]+ train tokens instead of [\d,]+: delete"):
        open_data(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"meta.json is damaged: delete the folder"),
        ('"\udcff"', r"meta.json is damaged: delete the folder"),
        ("[]", r"meta.json is damaged: delete the folder"),
        ('{"version": 1, "tokens": {}}', r"meta.json is damaged: delete the folder"),
        ('{"version": 7}', r"has format 7, and this dist_llm reads 1 and 2: delete the folder"),
    ],
)
def test_a_damaged_meta_json_is_an_error(config, content, message):
    folder = prepare(config)
    (folder / "meta.json").write_text(content, errors="surrogateescape")
    for function in (lambda: prepare(config), lambda: open_data(folder)):
        with pytest.raises(UserError, match=message):
            function()


def test_nothing_to_open(tmp_path):
    with pytest.raises(UserError, match=r"no prepared shards"):
        open_data(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot read .*meta.json \(Not a directory\)"):
        open_data(tmp_path / "file")


def test_progress_is_shown_only_when_asked_for(config, capfd, monkeypatch):
    monkeypatch.setattr("dist_llm.data.progress.LINE_EVERY_S", 0.0)
    prepare(config)
    assert capfd.readouterr().err == ""
    prepare(dataclasses.replace(config, val_fraction=0.2), progress=True)
    shown = capfd.readouterr().err
    assert all(f"{what}: 100% of 0 MB" in shown for what in ("reading", "encoding train", "encoding val"))


def test_a_version_before_this_one_is_read(config):
    folder = prepare(config)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"version": 1}))
    open_data(folder, verify=True)
