"""What every tokenizer promises, asked of each kind."""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dist_llm.errors import UserError
from dist_llm.text import (
    END_OF_TEXT,
    StreamDecoder,
    Tokenizer,
    bpe,
    load_tokenizer,
    save_tokenizer,
    tokenizer_from_dict,
    train_tokenizer,
)
from tests.text.samples import HOSTILE, PROSE, random_texts

TEXTS = HOSTILE + random_texts(200)


@pytest.fixture(scope="module", params=["byte", "char", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(request.param, [PROSE, *TEXTS], vocab_size=700)


@pytest.mark.parametrize("allow_special", [False, True])
def test_decode_undoes_encode(tokenizer, allow_special):
    for text in TEXTS:
        ids = tokenizer.encode(text, allow_special)
        assert ids.dtype == np.int32
        assert ids.ndim == 1
        assert tokenizer.decode(ids) == text


def test_token_bytes_add_up_to_the_text(tokenizer):
    assert len(tokenizer.token_bytes) == tokenizer.vocab_size
    for text in TEXTS:
        joined = b"".join(tokenizer.token_bytes[i] for i in tokenizer.encode(text))
        assert joined == text.encode("utf-8", "surrogatepass")


def test_no_two_tokens_are_the_same(tokenizer):
    assert len(set(tokenizer.token_bytes)) == tokenizer.vocab_size


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_end_of_text_is_special_only_when_asked(kind):
    tokenizer = train_tokenizer(kind, [PROSE], vocab_size=300)
    text = "one" + END_OF_TEXT + "two" + END_OF_TEXT
    assert tokenizer.eot_id == tokenizer.vocab_size - 1
    assert tokenizer.token_bytes[tokenizer.eot_id] == b""
    assert tokenizer.eot_id not in tokenizer.encode(text)
    expected = [*tokenizer.encode("one"), tokenizer.eot_id, *tokenizer.encode("two"), tokenizer.eot_id]
    assert tokenizer.encode(text, allow_special=True).tolist() == expected


def test_bytes_that_are_not_utf8_become_replacement_characters():
    tokenizer = train_tokenizer("byte", [], 0)
    for raw in (b"\xff", b"a\x80b", "é".encode()[:1], "😀".encode()[:3] + b"!", b"\xed\xa0", b"\xc0\xaf"):
        assert tokenizer.decode(list(raw)) == raw.decode("utf-8", "replace")


def test_streaming_equals_decode_on_text(tokenizer):
    for text in TEXTS:
        ids = tokenizer.encode(text, allow_special=True)
        stream = StreamDecoder(tokenizer)
        assert "".join(stream.push(i) for i in ids) == text
        assert stream.flush() == ""


def test_streaming_equals_decode_on_any_tokens():
    tokenizer = train_tokenizer("bpe", [PROSE], 300)
    rng = random.Random(7)
    # Lead bytes of every length, the surrogates' 0xED, continuation bytes, ASCII and the special token.
    likely = [0xC3, 0xE2, 0xED, 0xF0, 0xF4, 0x80, 0x9F, 0xA0, 0xBF, 0xFF, 0x41, tokenizer.eot_id]
    stream = StreamDecoder(tokenizer)
    for _ in range(3000):
        ids = rng.choices(likely, k=rng.randrange(8))
        assert "".join([*map(stream.push, ids), stream.flush()]) == tokenizer.decode(ids)


def test_streaming_holds_an_unfinished_character_back():
    stream = StreamDecoder(train_tokenizer("byte", [], 0))
    assert [stream.push(i) for i in "a😀".encode()] == ["a", "", "", "", "😀"]
    assert [stream.push(i) for i in "😀".encode()[:3]] == ["", "", ""]
    assert stream.flush() == "\ufffd"
    assert stream.push(ord("b")) == "b"


@pytest.mark.parametrize("bad", [-1, 257, 100_000])
def test_decoding_a_token_of_another_vocabulary(bad):
    tokenizer = train_tokenizer("byte", [], 0)
    with pytest.raises(UserError, match=rf"token {bad} is outside this byte tokenizer's vocabulary of 257"):
        tokenizer.decode([65, bad])


def test_a_loaded_tokenizer_is_the_saved_one(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert type(loaded) is type(tokenizer)
    assert loaded.token_bytes == tokenizer.token_bytes
    assert loaded.eot_id == tokenizer.eot_id
    assert loaded.to_dict() == tokenizer.to_dict()
    assert loaded.fingerprint == tokenizer.fingerprint
    for text in TEXTS:
        assert loaded.encode(text, True).tolist() == tokenizer.encode(text, True).tolist()


def test_the_file_is_what_the_fingerprint_is_of(tmp_path):
    tokenizer = train_tokenizer("char", ["ba\U0001f600"], 0)
    save_tokenizer(tokenizer, tmp_path)
    content = (tmp_path / "tokenizer.json").read_bytes()
    vocab = rb'{"a":0,"b":1,"\ud83d\ude00":2}'
    assert b'"model":{"type":"WordLevel","unk_token":"<unk>","vocab":%b}' % vocab in content
    assert tokenizer.fingerprint == hashlib.sha256(content).hexdigest()


def test_fingerprints_tell_tokenizers_apart():
    made = [
        train_tokenizer("byte", [], 0),
        train_tokenizer("char", ["ab"], 0),
        train_tokenizer("char", ["abc"], 0),
        train_tokenizer("bpe", [PROSE], 257),
        train_tokenizer("bpe", [PROSE], 300),
        train_tokenizer("bpe", [PROSE[:5000]], 300),
    ]
    assert len({tokenizer.fingerprint for tokenizer in made}) == len(made)


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_the_fingerprint_does_not_depend_on_the_hash_seed(kind):
    program = (
        "from dist_llm.text import train_tokenizer; from tests.text.samples import PROSE; "
        f"print(train_tokenizer({kind!r}, [PROSE], 500).fingerprint)"
    )
    root = Path(__file__).parents[2]
    for seed in ("0", "1", "4242"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", program]
        run = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == train_tokenizer(kind, [PROSE], 500).fingerprint


def test_an_unknown_kind():
    with pytest.raises(UserError, match=r"unknown tokenizer 'word': data\.tokenizer is one of byte, char, bpe"):
        train_tokenizer("word", ["text"], 300)


def test_loading_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the tokenizer .*nowhere\.json: No such file"):
        load_tokenizer(tmp_path / "nowhere.json")


def test_files_of_version_0_1_are_read_and_keep_their_fingerprints(tmp_path):
    of_old = {
        "byte": '{"format":"dist_llm tokenizer","kind":"byte","version":1}',
        "char": '{"alphabet":["a","b"],"format":"dist_llm tokenizer","kind":"char","version":1}',
        "bpe": '{"format":"dist_llm tokenizer","kind":"bpe","merges":[[97,98],[256,98]],"version":1}',
    }
    for kind, content in of_old.items():
        (tmp_path / "tokenizer.json").write_text(content)
        tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
        assert tokenizer.kind == kind
        assert tokenizer.fingerprint == hashlib.sha256(content.encode()).hexdigest()
        assert tokenizer.decode(tokenizer.encode("abba")) == "abba"
        assert tokenizer_from_dict(tokenizer.to_dict()).token_bytes == tokenizer.token_bytes
    assert tokenizer.encode("abba").tolist() == [257, 97]


def tokenizer_json(kind, **changes):
    document = train_tokenizer(kind, ["abc"], 258).to_dict()
    return json.dumps(document | {"model": document["model"] | changes})


def with_added(**changes):
    """A tokenizer.json with one more added token, of which something is not as it should be."""
    document = train_tokenizer("bpe", ["abc"], 258).to_dict()
    added = {"id": 256, "content": "<x>", "special": True} | changes
    return json.dumps(document | {"added_tokens": [*document["added_tokens"], added]})


def with_pattern(pattern):
    """A tokenizer.json that cuts text by a pattern."""
    document = train_tokenizer("bpe", ["abc"], 258).to_dict()
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    end = {"type": "ByteLevel", "use_regex": False}
    return json.dumps(document | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, end]}})


DOUBLINGS = {"format": "dist_llm tokenizer", "kind": "bpe", "merges": [[97, 97]] + [[i, i] for i in range(256, 285)]}
BAD_VOCABULARY = {s: i for s, i in train_tokenizer("byte", [], 0).to_dict()["model"]["vocab"].items() if i > 0}

BYTES = train_tokenizer("byte", [], 0).to_dict()["model"]["vocab"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is damaged (not JSON"),
        ("\xff\xfe", "is damaged (not JSON"),
        ('{"model": ', "is damaged (not JSON"),
        ("[1]", "it is no tokenizer.json: it has no model"),
        ('{"format": "another"}', "it is no tokenizer.json: it has no model"),
        ('{"model": {"type": "BPE"}}', "damaged or not supported (KeyError: 'normalizer')"),
        ('{"model": []}', "damaged or not supported (TypeError"),
        ('{"model": {"type": "Unigram"}}', "a Unigram of this kind is not supported"),
        (tokenizer_json("bpe", vocab=BAD_VOCABULARY), "the byte 0 is not in the vocabulary"),
        (tokenizer_json("bpe", vocab={"a": 10**9}), "an id is 1000000000, and there are 2 tokens"),
        (tokenizer_json("bpe", vocab=BAD_VOCABULARY | {"\u4e00": 0}), "stands for no byte"),
        (tokenizer_json("bpe", merges=[["a", "b"]]), "what the merge (97, 98) makes is not in the vocabulary"),
        (tokenizer_json("bpe", merges=[["a", "bcd"]]), "(KeyError: 'bcd')"),
        (tokenizer_json("bpe", merges=["a"]), "(ValueError: not enough values"),
        (tokenizer_json("bpe", merges=7), "(TypeError"),
        (tokenizer_json("bpe", unk_token="?"), "a BPE with unk_token is not supported"),
        (tokenizer_json("char", vocab={}), "must be a sorted list of distinct characters"),
        (tokenizer_json("char", vocab={"b": 0, "a": 1}), "the ids are not the places in the sorted alphabet"),
        (tokenizer_json("char", vocab={"a": 0, "bc": 1}), "must be a sorted list of distinct characters"),
        ('{"format": "dist_llm tokenizer", "kind": "word"}', "its kind word is not one of byte, char, bpe"),
        ('{"format": "dist_llm tokenizer", "kind": "bpe"}', "(KeyError: 'merges')"),
        ('{"format": "dist_llm tokenizer", "kind": "bpe", "merges": [[97, 256]]}', "a token that does not exist yet"),
        (json.dumps(DOUBLINGS), "its tokens have more than 33,554,432 bytes together"),
        (tokenizer_json("bpe", vocab=BYTES | {"ab": -1}), "an id is not a whole number"),
        (tokenizer_json("bpe", vocab=BYTES | {"ab": 256.0}), "an id is not a whole number"),
        (tokenizer_json("bpe", vocab=BYTES | {"ab": 97}), "two tokens have the same id"),
        (with_added(content=""), "the added token 256 is damaged"),
        (with_added(content=5), "the added token 256 is damaged"),
        (with_added(content="\ud800"), "surrogates not allowed"),
        (with_added(id="256"), "the added token 256 is damaged"),
        (with_added(id=True), "the added token True is damaged"),
        (with_added(special="no"), "the added token 256 is damaged"),
        (with_pattern("a" * 5000), "is too long, or calls itself"),
        (with_pattern("(?R)?a"), "is too long, or calls itself"),
        (with_pattern("(" * 2000 + ")" * 2000), "(RecursionError"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_loading_a_file_that_is_not_a_good_tokenizer(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError) as caught:
        load_tokenizer(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_pattern_that_would_take_for_ever_is_told(tmp_path, monkeypatch):
    (tmp_path / "tokenizer.json").write_text(with_pattern("(a+)+$"))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.decode(tokenizer.encode("aaa")) == "aaa"
    monkeypatch.setattr(bpe, "LEAST_S", 0.2)
    with pytest.raises(UserError, match=r"the pattern '\(a\+\)\+\$', by which .* cuts text, takes too long"):
        tokenizer.encode("a" * 1000 + "b")


@pytest.mark.parametrize("end", [3, ["<|endoftext|>"], {"content": 3}])
def test_an_end_of_text_that_is_no_text(tmp_path, end):
    save_tokenizer(train_tokenizer("byte", [], 0), tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": end}))
    with pytest.raises(UserError, match=r"tokenizer_config.json is damaged \(its eos_token is no text\)"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_that_is_no_file_or_too_large(tmp_path):
    os.mkfifo(tmp_path / "fifo.json")
    with pytest.raises(UserError, match=r"cannot read the tokenizer .*fifo.json: it is not a regular file"):
        load_tokenizer(tmp_path / "fifo.json")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UserError, match=r"cannot read the tokenizer .*large.json: it is larger than"):
        load_tokenizer(tmp_path / "large.json")


def test_too_many_added_tokens(tmp_path):
    document = train_tokenizer("bpe", ["abc"], 258).to_dict()
    added = [{"id": i, "content": f"<{i}>", "special": True} for i in range(258, 5000)]
    (tmp_path / "tokenizer.json").write_text(json.dumps(document | {"added_tokens": added}))
    with pytest.raises(UserError, match="4742 added tokens are more than 4096"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_is_not_written_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "tokenizer.json").symlink_to("precious")
    save_tokenizer(train_tokenizer("byte", [], 0), tmp_path)
    assert (tmp_path / "precious").read_text() == "precious"
    assert load_tokenizer(tmp_path).kind == "byte"
