"""The trainer against its plain reference, and at its limits."""

import json
import random
import re

import pytest
import regex

from dist_llm.errors import UserError
from dist_llm.text import bpe_training, train_tokenizer
from dist_llm.text.byte_level import PATTERNS
from tests.oracles import bpe_plain
from tests.text.samples import HOSTILE, PROSE, random_texts


def plain_merges(texts, n_merges):
    pieces = [
        piece.encode("utf-8", "surrogatepass") for text in texts for piece in regex.findall(PATTERNS["gpt2"], text)
    ]
    return bpe_plain.train(pieces, n_merges)


def test_merges_of_english_equal_the_plain_trainers():
    texts = [PROSE[:3000], PROSE[3000:6000]]
    merges = bpe_training.train_merges(texts, 257 + 120)
    assert len(merges) == 120
    assert merges == plain_merges(texts, 120)


@pytest.mark.parametrize("seed", range(20))
def test_merges_full_of_ties_and_overlaps_equal_the_plain_trainers(seed):
    rng = random.Random(seed)
    letters = "ab"[: 1 + seed % 2] + "c "
    texts = ["".join(rng.choices(letters, k=60)) for _ in range(5)]
    merges = bpe_training.train_merges(texts, 257 + 1000)
    assert 0 < len(merges) < 1000  # to the very end: nothing is left that repeats
    assert merges == plain_merges(texts, 1000)


def test_merges_of_hostile_text_equal_the_plain_trainers():
    texts = [*HOSTILE, *random_texts(30)]
    assert bpe_training.train_merges(texts, 257 + 100) == plain_merges(texts, 100)


def test_the_smallest_pair_wins_a_tie():
    assert bpe_training.train_merges(["yz", "ab", "yz", "ab"], 258) == [(ord("a"), ord("b"))]


def test_the_vocabulary_has_the_size_asked_for_or_what_the_text_gives():
    assert train_tokenizer("bpe", [PROSE], 257).vocab_size == 257
    assert train_tokenizer("bpe", [PROSE], 400).vocab_size == 400
    assert train_tokenizer("bpe", ["abab once"], 400).vocab_size == 258
    assert train_tokenizer("bpe", [], 400).vocab_size == 257


@pytest.mark.parametrize("size", [256, 0, -5])
def test_a_vocabulary_too_small_for_the_bytes(size):
    with pytest.raises(UserError, match=rf"data.vocab_size={size} is too small .* need at least 257"):
        train_tokenizer("bpe", ["text"], size)


def test_only_the_first_characters_are_read(monkeypatch):
    monkeypatch.setattr(bpe_training, "TRAINING_CHARS", 10)
    assert bpe_training.count_pieces(["aa bb", "cc ddee", "ff"]) == {
        b"aa": 1,
        b" bb": 1,
        b"cc": 1,
        b" dd": 1,
    }


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_pieces_are_counted_alike_in_batches_of_any_size(monkeypatch, size):
    texts = [PROSE, *HOSTILE, "a long text of words " * 300]
    whole = bpe_training.count_pieces(texts)
    merges = bpe_training.train_merges(texts, 400)
    monkeypatch.setattr(bpe_training, "BATCH_CHARS", size)
    monkeypatch.setattr(bpe_training, "TRAINING_CHARS", sum(map(len, texts)))
    assert bpe_training.count_pieces(iter(texts)) == whole
    assert bpe_training.train_merges(iter(texts), 400) == merges


def test_a_huge_piece_is_trained_on_whole():
    assert bpe_training.count_pieces(["x" * 100_000]) == {b"x" * 100_000: 1}
    # x, xx, xxxx, ... up to the piece of two halves, which is seen once.
    merges = bpe_training.train_merges(["x" * (1 << 16)], 1000)
    assert merges == [(120, 120), *((256 + i, 256 + i) for i in range(14))]


def hugging_faces_merges(texts, vocab_size, pattern="gpt2"):
    hf = pytest.importorskip("tokenizers")
    tokenizer = hf.Tokenizer(hf.models.BPE())
    byte_level = hf.pre_tokenizers.ByteLevel
    split = hf.pre_tokenizers.Split(hf.Regex(PATTERNS[pattern]), behavior="isolated")
    tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
    if pattern != "gpt2":
        cut = byte_level(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = hf.pre_tokenizers.Sequence([split, cut])
    trainer = hf.trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, initial_alphabet=byte_level.alphabet(),
        special_tokens=["<|endoftext|>"], show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


def our_merges(texts, vocab_size, pattern="gpt2"):
    tokenizer = train_tokenizer("bpe", texts, vocab_size, pattern=pattern)
    return [tuple(merge) for merge in tokenizer.to_dict()["model"]["merges"]]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_hugging_face_learns_the_same_merges_in_the_same_order(pattern):
    assert our_merges([PROSE], 2000, pattern) == hugging_faces_merges([PROSE], 2000, pattern)
    texts = [text for text in (*HOSTILE, *random_texts(300)) if not re.search("[\ud800-\udfff]", text)]
    assert our_merges(texts, 3000, pattern) == hugging_faces_merges(texts, 3000, pattern)


@pytest.mark.parametrize("seed", range(20))
def test_hugging_face_breaks_ties_and_joins_equal_tokens_alike(seed):
    rng = random.Random(seed)
    texts = ["".join(rng.choices("abc "[: 2 + seed % 3], k=400)) for _ in range(4)]
    assert our_merges(texts, 1000) == hugging_faces_merges(texts, 1000)
