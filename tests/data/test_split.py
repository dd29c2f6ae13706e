import hashlib
import random

import pytest

from dist_llm.data import split_documents


def synthetic(n: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices("abcdefgh ,.\n", k=n))


def length(documents: list[str]) -> int:
    return sum(map(len, documents))


def test_one_document_is_cut_at_the_published_sizes_of_tiny_shakespeare():
    text = synthetic(1_115_394)
    train, val = split_documents([text], 0.1)
    assert [len(t) for t in train] == [1_003_854]
    assert [len(t) for t in val] == [111_540]
    assert train[0] + val[0] == text


@pytest.mark.parametrize(
    ("n", "val_fraction", "n_val"),
    [(10, 0.1, 1), (10, 0.9, 9), (100, 0.29, 29), (1000, 0.001, 1), (10, 1e-5, 1)],
)
def test_the_share_is_that_of_the_decimal_number(n, val_fraction, n_val):
    # 1 - 0.9 < 0.1 in binary floating point: plain int() would leave none of ten characters for training.
    train, val = split_documents(["x" * n], val_fraction)
    assert (length(train), length(val)) == (n - n_val, n_val)


def test_documents_are_held_out_whole_by_the_hash_of_their_text():
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


def test_both_parts_keep_the_original_order():
    documents = [f"{i:04d} {synthetic(40, seed=i)}" for i in range(200)]
    train, val = split_documents(documents, 0.4)
    assert len(val) > 50
    assert train == sorted(train)
    whole = [text for text in val if text in documents]
    assert len(whole) >= len(val) - 1
    assert whole == sorted(whole)


def test_no_document_is_on_both_sides_and_duplicates_count_once():
    documents = [synthetic(50, seed=i % 20) for i in range(60)]
    train, val = split_documents(documents, 0.5)
    assert length(train) + length(val) == 20 * 50
    assert not set(train) & set(val)
    assert len(set(train)) == len(train)
    assert len(set(val)) == len(val)


def test_the_order_of_the_corpus_does_not_decide():
    documents = [synthetic(60, seed=i) for i in range(30)]
    _, val = split_documents(documents, 0.2)
    _, val_of_reversed = split_documents(documents[::-1], 0.2)
    assert val == val_of_reversed[::-1]


def test_nothing_of_nothing():
    assert split_documents([], 0.1) == ([], [])


def test_copies_that_differ_only_in_the_white_space_around_them_are_copies():
    documents = [synthetic(60, seed=i).strip() for i in range(40)]
    copies = [end.join(["", text, ""]) for text, end in zip(documents, ["\n", "\r\n", " ", "\n\n"] * 10, strict=True)]
    train, val = split_documents(documents + copies, 0.2)
    assert length(train) + length(val) == length(documents)
