import io
import sys

import numpy as np
import pytest

from dist_llm.config import Config, ModelConfig
from dist_llm.errors import UserError
from dist_llm.inference.console import converse
from dist_llm.inference.conversation import Conversation
from dist_llm.inference.generation import generate, sample_generators
from dist_llm.inference.language_model import LanguageModel
from dist_llm.inference.sampler import Sampler
from dist_llm.model.llama import Llama
from dist_llm.text import train_tokenizer

BYTE = train_tokenizer("byte", [], 0)
CHAR = train_tokenizer("char", ["ab\n"], 0)


def language_model(tokenizer=BYTE, max_seq_len: int = 64) -> LanguageModel:
    config = ModelConfig(dim=16, n_layers=2, n_heads=2, ffn_dim=24, max_seq_len=max_seq_len, init_std=0.5)
    model = Llama(config, tokenizer.vocab_size)
    model.params.initialize(np.random.default_rng(0))
    return LanguageModel(model, tokenizer, Config())


def test_turns_are_one_text_and_no_token_is_computed_twice(monkeypatch):
    trained = language_model()
    computed = []
    decode = Llama.decode
    monkeypatch.setattr(
        Llama, "decode", lambda self, tokens, *rest: computed.append(tokens.shape[1]) or decode(self, tokens, *rest)
    )
    conversation = Conversation(trained, 8, Sampler(0))
    first = "".join(conversation.reply("abc"))
    second = "".join(conversation.reply("de"))
    assert sum(computed) == len(conversation.context) - 1  # but the last, which nothing has followed
    ids = [
        *BYTE.encode("abc"),
        *generate(trained.model, BYTE, BYTE.encode("abc"), 8, Sampler(0), *sample_generators(1, 1)),
    ]
    assert first == BYTE.decode(ids[3:])
    ids = np.array([*ids, *BYTE.encode("de")])
    assert second == BYTE.decode(list(generate(trained.model, BYTE, ids, 8, Sampler(0), *sample_generators(1, 1))))


def test_nothing_said_goes_on():
    trained = language_model()
    conversation = Conversation(trained, 5, Sampler(0))
    assert len("".join([*conversation.reply(""), *conversation.reply("")])) > 0
    assert len(conversation.context) == 11


def test_what_cannot_be_said_has_not_been_said():
    conversation = Conversation(language_model(CHAR), 5, Sampler(0))
    list(conversation.reply("ab"))
    with pytest.raises(UserError, match="z"):
        conversation.reply("az")
    assert len(conversation.context) == 7


def test_a_console_leaves_cleanly_and_says_once_that_the_context_slides(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("ab\nz\n\nba\n"))
    converse(Conversation(language_model(CHAR, max_seq_len=16), 20, Sampler(1)))
    out, err = capsys.readouterr()
    assert len(out.encode()) >= 3 * 21
    assert err.count("[the context of 16 tokens is full: from here on the oldest are forgotten]") == 1
    assert err.count("error: ") == 1
    assert "z" in err


def test_ctrl_c_leaves_cleanly(monkeypatch, capsys):
    def interrupted(prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupted)
    converse(Conversation(language_model(), 20, Sampler(1)))
    assert capsys.readouterr() == ("", "")
