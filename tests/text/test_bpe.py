"""Encoding with byte-level BPE: the pieces, the merges, and Hugging Face's tokenizers as a second opinion."""

import random
import sys
import unicodedata

import pytest
import regex

from dist_llm.text import bpe, train_tokenizer
from dist_llm.text.byte_level import PATTERNS
from tests.oracles import bpe_plain
from tests.text.samples import HOSTILE, PROSE, random_texts

PIECE = regex.compile(PATTERNS["gpt2"])


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("bpe", [PROSE], 600)


def test_pieces_of_a_sentence():
    pieces = [
        "We",
        "'ll",
        " pay",
        "  ",
        " $",
        "3",
        ".",
        "14",
        ",",
        " Mr",
        "_",
        "X",
        "!?",
        "\n\n ",
        " ok",
        " ",
    ]
    assert PIECE.findall("We'll pay   $3.14, Mr_X!?\n\n  ok ") == pieces


@pytest.mark.parametrize("ending", ["'s", "'d", "'m", "'t", "'ll", "'ve", "'re"])
def test_english_endings_are_pieces(ending):
    assert PIECE.findall(f"you{ending}!") == ["you", ending, "!"]
    assert PIECE.findall(f"YOU{ending.upper()}") == ["YOU", "'", ending[1:].upper()]


def test_pieces_join_to_the_text_for_every_character_there_is():
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    for text in (everything, " ".join(everything), *HOSTILE, *random_texts(300)):
        assert "".join(PIECE.findall(text)) == text


def test_encoding_equals_applying_every_merge_in_order(tokenizer):
    rng = random.Random(3)
    texts = [*HOSTILE, *random_texts(50), *("".join(rng.choices("aest ", k=40)) for _ in range(100))]
    for text in texts:
        pieces = [piece.encode("utf-8", "surrogatepass") for piece in PIECE.findall(text)]
        expected = [i for piece in pieces for i in bpe_plain.encode(piece, tokenizer.merges)]
        assert tokenizer.encode(text).tolist() == expected


def test_overlapping_pairs_merge_from_the_left():
    tokenizer = bpe.BPETokenizer.of_merges([(97, 97), (256, 256), (257, 97)])
    assert tokenizer.encode("a" * 7).tolist() == [257, 256, 97]
    assert tokenizer.encode("a" * 5).tolist() == [258]


def test_a_full_cache_changes_nothing(tokenizer, monkeypatch):
    monkeypatch.setattr(bpe, "CACHED_PIECES", 3)
    monkeypatch.setattr(bpe, "LONGEST_CACHED_PIECE", 5)
    small = bpe.BPETokenizer.of_merges(tokenizer.merges)
    assert small.encode(PROSE).tolist() == tokenizer.encode(PROSE).tolist()
    assert 0 < len(small._cache) <= 3
    assert max(map(len, small._cache)) <= 5


def test_a_huge_piece_does_not_take_forever(tokenizer):
    blob = "".join(random.Random(5).choices("abcdefghijklmnopqrstuvwxyz", k=200_000))
    assert PIECE.findall(blob) == [blob]
    assert tokenizer.decode(tokenizer.encode(blob)) == blob


def test_two_merges_may_make_the_same_token():
    a, b, c = b"abc"
    tokenizer = bpe.BPETokenizer.of_merges([(b, c), (a, 256), (a, b), (258, c)])
    assert tokenizer.token_bytes[256:] == [b"bc", b"abc", b"ab", b""]
    assert tokenizer.encode("abc").tolist() == [257]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_hugging_face_encodes_alike(pattern):
    hf = pytest.importorskip("tokenizers")
    tokenizer = train_tokenizer("bpe", [PROSE], 600, pattern=pattern)
    twin = hf.Tokenizer.from_str(tokenizer.to_json())
    rng = random.Random(11)
    unassigned = {c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in ("Cn", "Cs")}
    others = ["".join(c for c in text if c not in unassigned) for text in (*HOSTILE, *random_texts(300))]
    ascii_texts = ["".join(chr(rng.randrange(128)) for _ in range(200)) for _ in range(50)]
    everything = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if c not in unassigned)
    for text in [PROSE, *ascii_texts, *others, everything, " ".join(everything)]:
        assert tokenizer.encode(text, allow_special=True).tolist() == twin.encode(text).ids
