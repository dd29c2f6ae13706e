import numpy as np
import pytest

from dist_llm.data.loader import CountedTokens, TokensInMemory
from dist_llm.text import train_tokenizer
from dist_llm.training.sample import known_prompt


@pytest.mark.parametrize(
    ("kind", "text", "prompt"),
    [
        ("byte", "the king and his men", "The "),
        ("bpe", "the king and his men", "The "),
        ("char", "The king and his men", "The "),
        ("char", "to be or not to be, that is it", "to be or not to"),
        ("char", "天地玄黄宇宙洪荒", "天地玄黄宇宙洪荒"),
        ("byte", "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏", "天地玄黄宇宙洪荒日月盈昃辰宿列张"),
        ("byte", "<|endoftext|>\n\n  Öfter mal was Neues\n", "Öfter mal was"),
        ("char", "-- dash and ad", "dash and ad"),
        ("char", "\n \n\t", ""),
        ("byte", "ä" + 80 * "\x07", ""),
    ],
)
def test_the_prompt_is_one_that_the_tokenizer_knows(kind, text, prompt):
    tokenizer = train_tokenizer(kind, [text], 260)
    ids = tokenizer.encode(text, allow_special=True).astype(np.int32)
    assert known_prompt(tokenizer, TokensInMemory(ids, "", 0)) == prompt
    tokenizer.encode(prompt)


@pytest.mark.parametrize(
    ("prompt", "offered"),
    [("What is 2?\nIt is ", "What is 2?\nIt is "), ("", "The "), ("- 2 is", "The "), ("bell \x07", "The ")],
)
def test_of_pairs_it_is_the_first_ones_prompt(prompt, offered):
    tokenizer = train_tokenizer("byte", [], 260)
    ids = tokenizer.encode(prompt + "2." + prompt + "3.")
    counted = np.array([0] * len(prompt) + [1, 1] + [0] * len(prompt) + [1, 1])
    pairs = CountedTokens(TokensInMemory(ids, "", 0), TokensInMemory(counted, "", 0))
    assert known_prompt(tokenizer, pairs) == offered
