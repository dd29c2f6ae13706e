"""Encoding with byte-level BPE: the pieces, the merges, and Hugging Face's tokenizers as a second opinion."""

import random
import sys

import pytest

from dist_llm.text import bpe, train_tokenizer
from tests.oracles import bpe_plain
from tests.text.samples import HOSTILE, PROSE, random_texts


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
    assert bpe.PIECE.findall("We'll pay   $3.14, Mr_X!?\n\n  ok ") == pieces


@pytest.mark.parametrize("ending", ["'s", "'d", "'m", "'t", "'ll", "'ve", "'re"])
def test_english_endings_are_pieces(ending):
    assert bpe.PIECE.findall(f"you{ending}!") == ["you", ending, "!"]
    assert bpe.PIECE.findall(f"YOU{ending.upper()}") == ["YOU", "'", ending[1:].upper()]


def test_pieces_join_to_the_text_for_every_character_there_is():
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    for text in (everything, " ".join(everything), *HOSTILE, *random_texts(300)):
        assert "".join(bpe.PIECE.findall(text)) == text


def test_encoding_equals_applying_every_merge_in_order(tokenizer):
    rng = random.Random(3)
    texts = [*HOSTILE, *random_texts(50), *("".join(rng.choices("aest ", k=40)) for _ in range(100))]
    for text in texts:
        pieces = [piece.encode("utf-8", "surrogatepass") for piece in bpe.PIECE.findall(text)]
        expected = [i for piece in pieces for i in bpe_plain.encode(piece, tokenizer.merges)]
        assert tokenizer.encode(text).tolist() == expected


def test_overlapping_pairs_merge_from_the_left():
    tokenizer = bpe.BPETokenizer([(97, 97), (256, 256), (257, 97)])
    assert tokenizer.encode("a" * 7).tolist() == [257, 256, 97]
    assert tokenizer.encode("a" * 5).tolist() == [258]


def test_a_full_cache_changes_nothing(tokenizer, monkeypatch):
    monkeypatch.setattr(bpe, "CACHED_PIECES", 3)
    monkeypatch.setattr(bpe, "LONGEST_CACHED_PIECE", 5)
    small = bpe.BPETokenizer(tokenizer.merges)
    assert small.encode(PROSE).tolist() == tokenizer.encode(PROSE).tolist()
    assert 0 < len(small._cache) <= 3
    assert max(map(len, small._cache)) <= 5


def test_a_huge_piece_does_not_take_forever(tokenizer):
    blob = "".join(random.Random(5).choices("abcdefghijklmnopqrstuvwxyz", k=200_000))
    assert bpe.PIECE.findall(blob) == [blob]
    assert tokenizer.decode(tokenizer.encode(blob)) == blob


def hugging_face_twin(tokenizer):
    """Build the same tokenizer out of Hugging Face's parts, from the merges alone."""
    hf = pytest.importorskip("tokenizers")
    # GPT-2 writes bytes as printable characters: those that print as they are, the others from 256 on.
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    moved = [byte for byte in range(256) if byte not in printable]
    symbol = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(moved)}
    names = ["".join(symbol[byte] for byte in token) for token in tokenizer.token_bytes[:-1]]
    twin = hf.Tokenizer(
        hf.models.BPE(
            vocab={name: i for i, name in enumerate(names)},
            merges=[(names[left], names[right]) for left, right in tokenizer.merges],
        )
    )
    # PIECE in terms of Unicode's categories; Python alone also counts the four \x1c-\x1f as spaces.
    letter, digit, space = r"\p{L}\p{Nl}\p{No}", r"\p{Nd}", r"\s\x1c-\x1f"
    pattern = (
        rf"'(?:[sdmt]|ll|ve|re)| ?[{letter}]+| ?[{digit}]+| ?[^{letter}{digit}{space}]+"
        rf"|[{space}]+(?![^{space}])|[{space}]+"
    )
    byte_level = hf.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = hf.pre_tokenizers.Split(hf.Regex(pattern), behavior="isolated")
    twin.pre_tokenizer = hf.pre_tokenizers.Sequence([split, byte_level])
    twin.decoder = hf.decoders.ByteLevel()
    return twin


def test_hugging_face_encodes_alike(tokenizer):
    twin = hugging_face_twin(tokenizer)
    rng = random.Random(11)
    ascii_texts = ["".join(chr(rng.randrange(128)) for _ in range(200)) for _ in range(50)]
    other_texts = [text for text in HOSTILE if text.isprintable() or text.isascii()]
    assert len(other_texts) > 10
    for text in [PROSE, *ascii_texts, *other_texts, "Ça coûte 3½ €, naïve größe… Ⅷ²٣ 東京\u2003 \u3000x"]:
        assert tokenizer.encode(text).tolist() == twin.encode(text).ids
