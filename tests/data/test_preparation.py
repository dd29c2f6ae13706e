import dataclasses
import json
import shutil
import threading
from pathlib import Path

import pytest

from dist_llm import atomic
from dist_llm.config import DataConfig
from dist_llm.data import corpora, open_data, preparation, prepare, split_documents
from dist_llm.errors import UserError

STORIES = [f"Story {i}: the {animal} and the {i * i}th tree.\n" for i, animal in enumerate(["fox", "owl", "cat"] * 9)]


@pytest.fixture
def config(tmp_path) -> DataConfig:
    text = "<|endoftext|>\n".join(STORIES)
    (tmp_path / "stories.txt").write_text(text)
    return DataConfig(path=str(tmp_path / "stories.txt"), cache_dir=str(tmp_path / "cache"), vocab_size=300)


def cached(config: DataConfig) -> list[str]:
    cache = Path(config.cache_dir)
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_a_prepared_folder_gives_the_split_back(config, kind):
    folder = prepare(dataclasses.replace(config, tokenizer=kind))
    assert cached(config) == [folder.name]
    assert folder.name.startswith(f"stories-{kind}-")
    assert sorted(p.name for p in folder.iterdir()) == [
        "meta.json",
        "tokenizer.json",
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
    train_tokenizer = preparation.train_tokenizer

    def spy(kind, texts, vocab_size):
        seen[kind] = list(texts)
        return train_tokenizer(kind, texts, vocab_size)

    monkeypatch.setattr(preparation, "train_tokenizer", spy)
    train, val = split_documents([story.strip("\n") for story in STORIES], 0.1)
    prepare(config)
    prepare(dataclasses.replace(config, tokenizer="char"))
    assert seen == {"bpe": train, "char": train + val}


def test_a_character_seen_only_in_validation_can_be_encoded(tmp_path):
    (tmp_path / "text.txt").write_text("abc" * 30 + "z" * 10)
    folder = prepare(DataConfig(path=str(tmp_path / "text.txt"), tokenizer="char", cache_dir=str(tmp_path / "cache")))
    tokenizer, train, val = open_data(folder)
    assert tokenizer.decode(train.read(0, len(train))) == "abc" * 30
    assert tokenizer.decode(val.read(0, len(val))) == "z" * 10


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (corpora, "_read_files"),
        (preparation, "split_documents"),
        (preparation, "save_tokenizer"),
        (preparation, "write_shards"),
        (atomic, "fsync"),
    ],
)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_preparation_leaves_nothing(config, monkeypatch, module, step, error):
    calls = []
    real = getattr(module, step)

    def fail_late(*args, **kwargs):
        calls.append(args)
        assert [name.endswith(".tmp") for name in cached(config)] == [True]
        # write_shards and fsync are called more than once: let the first call through.
        if len(calls) == 2 or step not in ("write_shards", "fsync"):
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(module, step, fail_late)
    with pytest.raises(error):
        prepare(config)
    assert calls
    assert cached(config) == []
    monkeypatch.undo()
    open_data(prepare(config))


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
    write_shards = preparation.write_shards
    monkeypatch.setattr(preparation, "write_shards", lambda *args, **kw: write_shards(*args, 100, **kw))
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
        ('{"version": 7}', r"has format 7, and this dist_llm reads 1: delete the folder"),
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


def test_progress_is_shown_only_when_asked_for(config, capfd):
    prepare(config)
    assert capfd.readouterr().err == ""
    prepare(dataclasses.replace(config, val_fraction=0.2), progress=True)
    assert "encoding train" in capfd.readouterr().err
