"""The character tokenizer's alphabet, and what lies outside it."""

import pytest

from dist_llm.errors import UserError
from dist_llm.text import train_tokenizer


def test_ids_are_places_in_the_sorted_alphabet():
    tokenizer = train_tokenizer("char", ["hello", "wörld\n"], vocab_size=9999)
    assert tokenizer.vocab_size == 9
    assert tokenizer.token_bytes == [c.encode() for c in "\ndehlorwö"]
    assert tokenizer.eot_id is None
    assert tokenizer.encode("hölle").tolist() == [3, 8, 4, 4, 2]


@pytest.mark.parametrize("allow_special", [False, True])
def test_there_is_no_special_token(allow_special):
    text = "<|endoftext|>"
    tokenizer = train_tokenizer("char", [text], 0)
    assert len(tokenizer.encode(text, allow_special)) == len(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("abz", r"'z' \(U\+007A\)"),  # after the last of the alphabet
        ("a0b", r"'0' \(U\+0030\)"),  # before the first
        ("a\ud800b", r"'\\ud800' \(U\+D800\)"),
        ("c😀?", r"'😀' \(U\+1F600\)"),
    ],
)
def test_a_character_outside_the_alphabet_is_named(text, named):
    tokenizer = train_tokenizer("char", ["abc"], 0)
    with pytest.raises(UserError, match=rf"the character {named} .* the 3 .* use data.tokenizer=bpe or byte"):
        tokenizer.encode(text)


@pytest.mark.parametrize("texts", [[], [""]])
def test_no_text_has_no_characters(texts):
    with pytest.raises(UserError, match="the text is empty"):
        train_tokenizer("char", texts, 0)
