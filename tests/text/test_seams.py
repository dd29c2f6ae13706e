"""Where a text may be cut: the parts have the pieces of the whole, by every pattern that is in use."""

import random

import pytest

from dist_llm.text import seams, train_tokenizer
from dist_llm.text.bpe import BPETokenizer
from dist_llm.text.byte_level import PATTERNS
from dist_llm.text.seams import SEAM, batches, find_seam, parts
from tests.text.samples import HOSTILE, PROSE, random_texts

# Of tokenizers that are read from files: GPT-4o's, and DeepSeek's, which are applied one after another.
GPT_4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
ALL = {"gpt2": (PATTERNS["gpt2"],), "llama3": (PATTERNS["llama3"],), "gpt4o": (GPT_4O,), "deepseek": DEEPSEEK}
ALPHABET = "aB1é中ー٣ \n\r\t\u3000'\u2019.,!s_/-😀\u0301"


def texts():
    rng = random.Random(0)
    return [PROSE, *HOSTILE, *random_texts(50), *("".join(rng.choices(ALPHABET, k=60)) for _ in range(300))]


@pytest.mark.parametrize("name", ALL)
def test_no_piece_crosses_a_seam(name):
    tokens = [bytes([byte]) for byte in range(256)]
    cut = BPETokenizer(tokens, [], {}, ALL[name]).pieces
    n_seams = 0
    for text in texts():
        whole = list(cut(text))
        seen = list(SEAM.finditer(text))[:200]
        n_seams += len(seen)
        for match in seen:
            place = match.end()
            assert [*cut(text[:place]), *cut(text[place:])] == whole, (text, place)
    assert n_seams > 1000


@pytest.mark.parametrize("size", [1, 2, 100, 10**6])
def test_the_parts_of_a_text_have_its_tokens(size):
    tokenizer = train_tokenizer("bpe", [PROSE], 600)
    for text in texts():
        cut = list(parts(text, size))
        assert "".join(cut) == text
        ids = [i for part in cut for i in tokenizer.encode_rest(part).tolist()]
        assert ids == tokenizer.encode(text).tolist()


def test_a_text_without_words_is_cut_where_it_gets_too_long(monkeypatch):
    monkeypatch.setattr(seams, "LONGEST", 10)
    assert list(map(len, parts("!" * 45, 10))) == [10, 10, 10, 15]
    assert list(parts("!" * 12 + "word next", 10)) == ["!" * 12 + "word", " next"]


def test_the_next_seam():
    assert find_seam("one two", 0) == find_seam("one two", 3) == 3
    assert find_seam("one two", 4) is None
    assert find_seam("", 0) is None


def test_batches():
    assert list(batches([], 10, 100)) == []
    assert list(batches(["aa bb", "c", "", "dd"], 3, 100)) == [["aa bb"], ["c", "", "dd"]]
    assert list(batches(["aa bb cc", "dd"], 3, 100)) == [["aa bb"], [" cc"], ["dd"]]
    assert list(batches(["aa bb", "cc"], 100, 6)) == [["aa bb", "c"]]
    assert list(batches(iter(["aa", "bb"]), 1, 2)) == [["aa"]]
