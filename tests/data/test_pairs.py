import json
from pathlib import Path

import numpy as np
import pytest

from dist_llm.config import DataConfig
from dist_llm.data import Loader, open_data, prepare
from dist_llm.data.loader import CountedTokens, TokensInMemory
from dist_llm.data.pairs import Pair, encode_pair, read_pairs, split_pairs
from dist_llm.errors import UserError
from dist_llm.text import train_tokenizer

PAIRS = [Pair(f"What is {i} + {j}?\n", f"It is {i + j}.") for i in range(8) for j in range(5)]


def lines(pairs: list[Pair]) -> str:
    return "".join(json.dumps(pair._asdict()) + "\n" for pair in pairs)


@pytest.fixture
def config(tmp_path) -> DataConfig:
    (tmp_path / "pairs.jsonl").write_text(lines(PAIRS))
    return DataConfig(
        path=str(tmp_path / "pairs.jsonl"), completions=True, cache_dir=str(tmp_path / "cache"), vocab_size=300
    )


def test_pairs_are_read_once_each(tmp_path):
    more = [Pair("", "no prompt\r\n"), Pair("ä 😀", " ")]
    (tmp_path / "b.jsonl").write_text(lines(PAIRS[3:] + more) + "\n \n")
    (tmp_path / "a.jsonl").write_text(lines(PAIRS[:5]))
    (tmp_path / "notes.txt").write_text("not a pair")
    assert read_pairs(tmp_path) == PAIRS + more
    assert read_pairs(tmp_path / "a.jsonl") == PAIRS[:5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"prompt": "a", "completion": "b"}\nplain text\n', "pairs.jsonl, line 2: not a pair; data.completions=true"),
        (b'{"prompt": "a"}', "line 1: not a pair"),
        (b'{"prompt": "a", "completion": 3}', "line 1: not a pair"),
        (b'["prompt", "completion"]', "line 1: not a pair"),
        (b"[" * 100_000, "line 1: not a pair"),
        (b'{"prompt": "a", "completion": ""}', "line 1: the completion is empty"),
        (b"\n", "holds no pairs: name a JSON Lines file"),
        (b'{"prompt": "\xe9"}', "is not UTF-8 text"),
        (None, "cannot read .*pairs.jsonl .No such file or directory.: correct --data.path"),
    ],
)
def test_what_is_no_pair_is_named(tmp_path, content, message):
    path = tmp_path / "pairs.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_pairs(path)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5])
def test_all_pairs_of_a_prompt_are_on_one_side_of_the_split(fraction):
    pairs = [Pair(prompt + " " * (i % 2), f"{i}. {text}") for i in range(3) for prompt, text in PAIRS]
    train, val = split_pairs(pairs, fraction)
    assert sorted(train + val) == sorted(pairs)
    assert not {p.prompt.strip() for p in train} & {p.prompt.strip() for p in val}
    size = sum(len(p) + len(c) for p, c in val)
    whole = sum(len(p) + len(c) for p, c in pairs)
    assert fraction * whole <= size < fraction * whole + 200
    again = split_pairs(pairs[::-1], fraction)
    assert sorted(again[1]) == sorted(val)


def test_the_completion_and_its_end_count():
    byte = train_tokenizer("byte", [], 0)
    tokens, counted = encode_pair(Pair("ab", "cde"), byte)
    assert tokens.tolist() == [*byte.encode("abcde").tolist(), byte.eot_id]
    assert counted.tolist() == [0, 0, 1, 1, 1, 1]
    assert encode_pair(Pair("", "c"), byte)[1].tolist() == [1, 1]


def test_a_prompt_has_the_tokens_that_it_has_alone():
    """Where the two together would be one token."""
    bpe = train_tokenizer("bpe", ["hello hello hello hello\n" * 50], 270)
    tokens, counted = encode_pair(Pair("hel", "lo"), bpe)
    expected = [*bpe.encode("hel").tolist(), *bpe.encode("lo").tolist(), bpe.eot_id]
    assert len(bpe.encode("hello")) < len(expected) - 1
    assert tokens.tolist() == expected
    assert counted.tolist() == [0] * len(bpe.encode("hel")) + [1] * (len(bpe.encode("lo")) + 1)


def test_a_prepared_folder_gives_the_pairs_back(config):
    folder = prepare(config)
    tokenizer, *splits = open_data(folder, verify=True)
    meta = json.loads((folder / "meta.json").read_text())
    for tokens, pairs, name in zip(splits, split_pairs(PAIRS, 0.1), ("train", "val"), strict=True):
        assert isinstance(tokens, CountedTokens)
        encoded = [encode_pair(pair, tokenizer) for pair in pairs]
        assert tokens.read(0, len(tokens)).tolist() == np.concatenate([e[0] for e in encoded]).tolist()
        assert tokens.counted.read(0, len(tokens)).tolist() == np.concatenate([e[1] for e in encoded]).tolist()
        assert meta["pairs"][name] == len(pairs)
        assert meta["tokens"][name] == len(tokens)
    assert splits[0].fingerprint != splits[1].fingerprint
    assert prepare(config) == folder


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_damaged_marks_are_noticed(config, damage):
    folder = prepare(config)
    path = folder / "counted-val-00000.bin"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="counted-val"):
        open_data(folder, verify=True)


def test_a_meta_json_that_has_lost_what_counts_is_noticed(config):
    """The prompts would be trained on too."""
    folder = prepare(config)
    meta = json.loads((folder / "meta.json").read_text())
    for damaged in ({"completions": False}, {"completions": 1}, {"completions": None}):
        (folder / "meta.json").write_text(json.dumps(meta | damaged))
        with pytest.raises(UserError, match=r"meta.json is damaged: delete the folder"):
            open_data(folder)


def test_other_settings_are_other_shards(config, tmp_path):
    import dataclasses

    shards = str(tmp_path / "shards")
    prepare(dataclasses.replace(config, shards=shards))
    with pytest.raises(UserError, match=r"were made with data.completions=true: say --data.completions=true"):
        prepare(dataclasses.replace(config, shards=shards, completions=False))
    with pytest.raises(UserError, match="the char tokenizer has no end-of-text token"):
        prepare(dataclasses.replace(config, tokenizer="char"))
    Path(config.path).write_text(lines([Pair("one", "a"), Pair("one", "b")]))
    with pytest.raises(UserError, match="pairs of one prompt only"):
        prepare(config)


def test_targets_that_do_not_count_are_none():
    rng = np.random.default_rng(0)
    ids, counted = rng.integers(0, 50, 300).astype(np.int32), rng.integers(0, 2, 300).astype(np.int32)
    tokens = TokensInMemory(ids, "ids", 300)
    plain = Loader(tokens, batch_size=7, seq_len=8, seed=2)
    # Marks in the place of tokens say which targets should count.
    marks = Loader(TokensInMemory(counted, "marks", 0), batch_size=7, seq_len=8, seed=2)
    loader = Loader(CountedTokens(tokens, TokensInMemory(counted, "marks", 0)), batch_size=7, seq_len=8, seed=2)
    for step in (0, 3):
        x, y = loader.batch(step)
        expected = np.where(marks.batch(step)[1], plain.batch(step)[1], -1)
        assert y.dtype == np.int32
        assert np.array_equal(x, plain.batch(step)[0])
        assert np.array_equal(y, expected)
        assert loader.n_targets(step) == (expected >= 0).sum() == marks.batch(step)[1].sum()
        assert plain.n_targets(step) == 56
