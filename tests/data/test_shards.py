import hashlib
import os
import struct

import numpy as np
import pytest

from dist_llm import atomic
from dist_llm.data.shards import TokenShards, is_whole_shard, shard_path, write_shard
from dist_llm.errors import UserError
from dist_llm.text import train_tokenizer

DOCUMENTS = ["Zwölf Boxkämpfer.", "jagen", "Viktor quer über den großen Sylter Deich. 😀" * 5, "x"]


@pytest.fixture
def tokenizer():
    return train_tokenizer("byte", DOCUMENTS, 512)


def write_shards(folder, split, documents, tokenizer, shard_tokens=10_000):
    """Write the tokens of documents to shards of a given length."""
    ids = np.array(expected(tokenizer, documents), np.int32)
    lengths = np.array([len(token) for token in tokenizer.token_bytes])
    for i, start in enumerate(range(0, max(1, len(ids)), shard_tokens)):
        part = ids[start : start + shard_tokens]
        write_shard(shard_path(folder, split, i), part, int(lengths[part].sum()), tokenizer)


def expected(tokenizer, documents):
    ids = []
    for document in documents:
        ids += [*tokenizer.encode(document).tolist(), *([] if tokenizer.eot_id is None else [tokenizer.eot_id])]
    return ids


@pytest.mark.parametrize("shard_tokens", [1, 7, 64, 293, 10_000])
def test_what_is_read_is_what_was_encoded(tmp_path, tokenizer, shard_tokens):
    write_shards(tmp_path, "train", DOCUMENTS, tokenizer, shard_tokens)
    ids = expected(tokenizer, DOCUMENTS)
    shards = TokenShards(tmp_path, "train")
    assert len(shards) == len(ids)
    assert len(list(tmp_path.iterdir())) == -(-len(ids) // shard_tokens)
    everything = shards.read(0, len(ids))
    assert everything.dtype == np.int32
    assert everything.tolist() == ids
    assert shards.n_bytes == sum(len(document.encode()) for document in DOCUMENTS)
    assert shards.tokenizer_fingerprint == tokenizer.fingerprint
    shards.verify()


def test_every_slice_across_borders(tmp_path, tokenizer):
    documents = DOCUMENTS[:2]
    write_shards(tmp_path, "train", documents, tokenizer, 5)
    ids = expected(tokenizer, documents)
    shards = TokenShards(tmp_path, "train")
    for start in range(len(ids) + 1):
        for count in range(len(ids) - start + 1):
            assert shards.read(start, count).tolist() == ids[start : start + count]
    for start, count in ((-1, 1), (0, len(ids) + 1), (len(ids), 1), (2, -1)):
        with pytest.raises(IndexError):
            shards.read(start, count)


def test_no_documents_are_no_tokens(tmp_path, tokenizer):
    write_shards(tmp_path, "val", [], tokenizer)
    shards = TokenShards(tmp_path, "val")
    assert len(shards) == shards.n_bytes == 0
    assert shards.read(0, 0).tolist() == []
    shards.verify()


def test_a_vocabulary_above_65536_takes_four_bytes(tmp_path):
    text = "".join(map(chr, range(0x20000, 0x20000 + 65_537)))
    tokenizer = train_tokenizer("char", [text], 512)
    write_shards(tmp_path, "train", [text], tokenizer, 1 << 17)
    assert (tmp_path / "train-00000.bin").stat().st_size == 128 + 4 * 65_537
    shards = TokenShards(tmp_path, "train")
    assert shards.read(0, len(shards)).tolist() == list(range(65_537))

    tokenizer = train_tokenizer("char", [text[:-1]], 512)
    write_shards(tmp_path, "val", [text[:-1]], tokenizer, 1 << 17)
    assert (tmp_path / "val-00000.bin").stat().st_size == 128 + 2 * 65_536
    assert TokenShards(tmp_path, "val").read(65_535, 1).tolist() == [65_535]


def test_the_header_is_what_the_page_says(tmp_path, tokenizer):
    write_shards(tmp_path, "train", ["né"], tokenizer)
    content = (tmp_path / "train-00000.bin").read_bytes()
    payload = struct.pack("<4H", ord("n"), 0xC3, 0xA9, 256)
    assert content[128:] == payload
    assert content[:32] == struct.pack("<8sIIQQ", b"DISTLLM\0", 1, 2, 4, 3)
    assert content[32:64].hex() == tokenizer.fingerprint
    assert content[64:96] == hashlib.sha256(content[:64] + payload).digest()
    assert content[96:128] == bytes(32)


FIX = r"delete .* and prepare it again"


@pytest.mark.parametrize(
    ("position", "message"),
    [
        (0, r"not a token shard"),
        (8, r"format \d+, and this dist_llm reads 1"),
        (12, r"\d+ bytes per token"),
        (16, r"bytes long instead of"),
        (24, r"checksum is wrong"),
        (32, r"checksum is wrong"),
        (64, r"checksum is wrong"),
        (95, r"checksum is wrong"),
        (128, r"checksum is wrong"),
        (-1, r"checksum is wrong"),
    ],
)
def test_a_changed_byte_is_noticed(tmp_path, tokenizer, position, message):
    write_shards(tmp_path, "train", DOCUMENTS, tokenizer)
    path = tmp_path / "train-00000.bin"
    content = bytearray(path.read_bytes())
    content[position] ^= 0x41
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{path} .*{message}.*{FIX}"):
        TokenShards(tmp_path, "train").verify()


@pytest.mark.parametrize("length", [0, 50, 127, 128, -1])
def test_a_file_cut_short_is_noticed_when_it_is_opened(tmp_path, tokenizer, length):
    write_shards(tmp_path, "train", DOCUMENTS, tokenizer)
    path = tmp_path / "train-00000.bin"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=rf"{path} .*(cut short|bytes long instead of).*{FIX}"):
        TokenShards(tmp_path, "train")


def test_a_missing_shard_is_noticed(tmp_path, tokenizer):
    with pytest.raises(UserError, match=r"no train shards in .* prepare it again"):
        TokenShards(tmp_path, "train")
    write_shards(tmp_path, "train", DOCUMENTS, tokenizer, 100)
    (tmp_path / "train-00001.bin").unlink()
    with pytest.raises(UserError, match=rf"train-00001.bin cannot be used \(missing\).*{FIX}"):
        TokenShards(tmp_path, "train")


def test_shards_of_two_tokenizers_do_not_mix(tmp_path, tokenizer):
    write_shards(tmp_path, "train", ["abcd"], tokenizer)
    (tmp_path / "train-00000.bin").rename(tmp_path / "first")
    write_shards(tmp_path, "train", ["abcd" * 3], train_tokenizer("char", ["abcd"], 512), 6)
    (tmp_path / "first").replace(tmp_path / "train-00000.bin")
    with pytest.raises(UserError, match=rf"another tokenizer than the shards beside it.*{FIX}"):
        TokenShards(tmp_path, "train")


def test_a_shard_is_replaced_as_a_whole(tmp_path, tokenizer, monkeypatch):
    write_shards(tmp_path, "train", DOCUMENTS, tokenizer)
    before = (tmp_path / "train-00000.bin").read_bytes()

    def fail(path):
        raise OSError("the disk is full")

    monkeypatch.setattr(atomic, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        write_shards(tmp_path, "train", DOCUMENTS[:1], tokenizer)
    assert (tmp_path / "train-00000.bin").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_whether_a_shard_is_whole(tmp_path, tokenizer):
    path = shard_path(tmp_path, "train", 0)
    assert not is_whole_shard(path, tokenizer.fingerprint)
    write_shards(tmp_path, "train", DOCUMENTS, tokenizer)
    assert is_whole_shard(path, tokenizer.fingerprint)
    assert not is_whole_shard(path, "0" * 64)
    content = path.read_bytes()
    for damaged in (content[:-1], content[:-1] + b"\xff", content[:50], b""):
        path.write_bytes(damaged)
        assert not is_whole_shard(path, tokenizer.fingerprint)


def test_every_byte_of_a_shard_counts(tmp_path, tokenizer):
    write_shards(tmp_path, "train", ["n\u00e9e"], tokenizer)
    path = tmp_path / "train-00000.bin"
    content = path.read_bytes()
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ 0x10]) + content[i + 1 :])
        with pytest.raises(UserError, match=rf"{path} .*{FIX}"):
            TokenShards(tmp_path, "train").verify()
        assert not is_whole_shard(path, tokenizer.fingerprint)


def test_tokens_that_do_not_exist_are_told_under_a_checksum_computed_anew(tmp_path, tokenizer):
    write_shards(tmp_path, "train", ["abc"], tokenizer)
    path = tmp_path / "train-00000.bin"
    content = path.read_bytes()
    payload = content[128:-2] + struct.pack("<H", tokenizer.vocab_size)
    path.write_bytes(content[:64] + hashlib.sha256(content[:64] + payload).digest() + bytes(32) + payload)
    TokenShards(tmp_path, "train", tokenizer.vocab_size + 1).verify()
    with pytest.raises(UserError, match=rf"it holds the token {tokenizer.vocab_size}, and the last one is.*{FIX}"):
        TokenShards(tmp_path, "train", tokenizer.vocab_size).verify()


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_file_is_no_shard(tmp_path, kind):
    path = tmp_path / "train-00000.bin"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=rf"{path} cannot be used \(it is not a regular file\).*{FIX}"):
        TokenShards(tmp_path, "train")
