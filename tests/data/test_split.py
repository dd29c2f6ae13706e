import hashlib
import random

import numpy as np
import pytest

from dist_llm.data.split import Slices, split, weighted
from tests.data.spooled import spooled, texts_of
from tests.oracles import split_plain


@pytest.fixture
def split_documents(tmp_path):
    """The split of a list of texts, each of them a document of a spool."""

    def split_documents(texts, val_fraction):
        with spooled(tmp_path, texts) as documents:
            train, val = split(documents, val_fraction)
            parts = texts_of(documents, train), texts_of(documents, val)
        assert (train.n_chars, val.n_chars) == tuple(map(length, parts))
        return parts

    return split_documents


def synthetic(n: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices("abcdefgh ,.\n", k=n))


def length(documents: list[str]) -> int:
    return sum(map(len, documents))


def test_one_document_is_cut_at_the_published_sizes_of_tiny_shakespeare(split_documents):
    text = synthetic(1_115_394)
    train, val = split_documents([text], 0.1)
    assert [len(t) for t in train] == [1_003_854]
    assert [len(t) for t in val] == [111_540]
    assert train[0] + val[0] == text


@pytest.mark.parametrize(
    ("n", "val_fraction", "n_val"),
    [(10, 0.1, 1), (10, 0.9, 9), (100, 0.29, 29), (1000, 0.001, 1), (10, 1e-5, 1)],
)
def test_the_share_is_that_of_the_decimal_number(split_documents, n, val_fraction, n_val):
    # 1 - 0.9 < 0.1 in binary floating point: plain int() would leave none of ten characters for training.
    train, val = split_documents(["x" * n], val_fraction)
    assert (length(train), length(val)) == (n - n_val, n_val)


def test_documents_are_held_out_whole_by_the_hash_of_their_text(split_documents):
    documents = [synthetic(100 + 7 * i, seed=i) for i in range(50)]
    train, val = split_documents(documents, 0.3)
    total = length(documents)
    assert length(train) == total * 7 // 10
    assert length(train) + length(val) == total

    by_hash = sorted(documents, key=lambda text: hashlib.sha256(text.strip().encode()).hexdigest())
    whole = [text for text in val if text in documents]
    assert sorted(whole) == sorted(by_hash[: len(whole)])
    # The next one in that order is the border: its head was trained on, its tail is the one other document.
    border = by_hash[len(whole)]
    (tail,) = set(val) - set(whole)
    (head,) = set(train) - set(documents)
    assert head + tail == border


def test_both_parts_keep_the_original_order(split_documents):
    documents = [f"{i:04d} {synthetic(40, seed=i)}" for i in range(200)]
    train, val = split_documents(documents, 0.4)
    assert len(val) > 50
    assert train == sorted(train)
    whole = [text for text in val if text in documents]
    assert len(whole) >= len(val) - 1
    assert whole == sorted(whole)


def test_no_document_is_on_both_sides_and_duplicates_count_once(split_documents):
    documents = [synthetic(50, seed=i % 20) for i in range(60)]
    train, val = split_documents(documents, 0.5)
    assert length(train) + length(val) == 20 * 50
    assert not set(train) & set(val)
    assert len(set(train)) == len(train)
    assert len(set(val)) == len(val)


def test_the_order_of_the_corpus_does_not_decide(split_documents):
    documents = [synthetic(60, seed=i) for i in range(30)]
    _, val = split_documents(documents, 0.2)
    _, val_of_reversed = split_documents(documents[::-1], 0.2)
    assert val == val_of_reversed[::-1]


def test_nothing_of_nothing(split_documents):
    assert split_documents([], 0.1) == ([], [])


def test_copies_that_differ_only_in_the_white_space_around_them_are_copies(split_documents):
    documents = [synthetic(60, seed=i).strip() for i in range(40)]
    copies = [end.join(["", text, ""]) for text, end in zip(documents, ["\n", "\r\n", " ", "\n\n"] * 10, strict=True)]
    train, val = split_documents(documents + copies, 0.2)
    assert length(train) + length(val) == length(documents)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_split_that_the_plain_version_makes(split_documents, seed):
    rng = random.Random(seed)
    letters = ["ab \n", "a é中😀\r\n", "\ufeff\u3000x\t"][seed % 3]
    texts = ["".join(rng.choices(letters, k=rng.choice([1, 3, 50, 3000]))) for _ in range(rng.choice([1, 2, 40]))]
    texts = [text for text in texts if text.strip()]
    val_fraction = rng.choice([0.1, 0.5, 0.001, 0.97])
    assert split_documents(texts, val_fraction) == split_plain.split_documents(texts, val_fraction)


def test_the_cut_is_between_characters(split_documents):
    text = "é中😀x" * 300_000  # more bytes than are looked at together
    train, val = split_documents([text], 0.3)
    assert train == [text[: len(text) * 7 // 10]]
    assert val == [text[len(text) * 7 // 10 :]]


def weighted_texts(tmp_path, texts, sources, weights):
    with spooled(tmp_path, texts, sources) as documents:
        train, val = split(documents, 0.1)
        chosen = weighted(train, documents, weights)
        assert chosen.n_chars == length(texts_of(documents, chosen))
        return texts_of(documents, train), texts_of(documents, chosen), texts_of(documents, val)


def test_a_weight_is_how_often_a_text_is_trained_on(tmp_path):
    texts = [f"{'ab'[i % 2]} {synthetic(50, seed=i)}" for i in range(2000)]
    train, chosen, val = weighted_texts(tmp_path, texts, [i % 2 for i in range(2000)], [2.5, 0.1])
    counts = {text: chosen.count(text) for text in train}
    assert {counts[text] for text in train if text[0] == "a"} == {2, 3}
    assert {counts[text] for text in train if text[0] == "b"} == {0, 1}
    a = [counts[text] for text in train if text[0] == "a"]
    b = [counts[text] for text in train if text[0] == "b"]
    assert np.mean(a) == pytest.approx(2.5, abs=0.06)
    assert np.mean(b) == pytest.approx(0.1, abs=0.04)
    assert not set(chosen) & set(val)
    assert len(set(val)) == len(val)
    assert set(chosen) <= set(train)


def test_weights_of_1_change_nothing(tmp_path):
    texts = [synthetic(50, seed=i) for i in range(40)]
    train, chosen, _ = weighted_texts(tmp_path, texts, [0] * 20 + [1] * 20, [1.0, 1.0])
    assert chosen == train
    train, chosen, _ = weighted_texts(tmp_path, texts, [0] * 20 + [1] * 20, [2.0, 2.0])
    assert chosen == train * 2


def test_the_head_of_a_document_on_the_border_is_counted_as_what_it_is(tmp_path):
    train, chosen, _ = weighted_texts(tmp_path, ["x" * 100], [0], [3.0])
    assert chosen == train * 3 == ["x" * 90] * 3


def test_slices_are_gone_through_in_blocks():
    n = (1 << 16) + 3
    slices = Slices(np.arange(n), np.arange(n, dtype=np.uint64), np.arange(1, n + 1, dtype=np.uint64), n)
    assert list(slices) == [(i, i + 1) for i in range(n)]
