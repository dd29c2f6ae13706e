import numpy as np
import pytest

from dist_llm.config import ModelConfig
from dist_llm.errors import UserError
from dist_llm.inference.generation import generate, prompt_tokens
from dist_llm.inference.sampler import Sampler
from dist_llm.model.llama import Llama
from dist_llm.text import train_tokenizer

BYTE = train_tokenizer("byte", [], 0)
CHAR = train_tokenizer("char", ["ab\n"], 0)


@pytest.fixture
def model() -> Llama:
    model = Llama(ModelConfig(dim=16, n_layers=2, n_heads=2, ffn_dim=24, max_seq_len=12, init_std=0.5), 260)
    model.params.initialize(np.random.default_rng(0))
    return model


def test_greedy_generation_is_the_argmax_of_the_whole_forward(model):
    prompt = BYTE.encode("abc")
    got = list(generate(model, BYTE, prompt, 9, Sampler(temperature=0), np.random.default_rng(0)))
    tokens = prompt.tolist()
    for _ in range(9):
        tokens.append(int(model.logits(np.array([tokens]))[0, -1, : BYTE.vocab_size].argmax()))
    assert got == tokens[3:]
    assert len(set(got)) > 2


def test_generation_goes_on_beyond_the_context(model):
    tokens = list(generate(model, BYTE, BYTE.encode("abc" * 20), 40, Sampler(), np.random.default_rng(2)))
    assert len(tokens) == 40
    assert max(tokens) < BYTE.vocab_size  # the model's last three rows are no words


def test_the_seed_decides(model):
    def text(seed: int) -> list[int]:
        return list(generate(model, BYTE, BYTE.encode("a"), 11, Sampler(), np.random.default_rng(seed)))

    assert text(1) == text(1) != text(2)


def test_generation_ends_with_the_text(model):
    model.params["model.embed_tokens.weight"].data[:] = 0  # every logit equal: the first wins

    class FirstIsEnd:
        vocab_size, eot_id = 260, 0

    assert list(generate(model, FirstIsEnd(), np.array([1]), 5, Sampler(temperature=0), np.random.default_rng(0))) == []


def test_an_empty_prompt_starts_a_text():
    assert prompt_tokens(BYTE, "").tolist() == [BYTE.eot_id]
    assert CHAR.decode(prompt_tokens(CHAR, "")) == "\n"
    assert prompt_tokens(train_tokenizer("char", ["ab"], 0), "").tolist() == [0]


def test_a_prompt_outside_the_vocabulary_is_refused():
    with pytest.raises(UserError, match="z"):
        prompt_tokens(CHAR, "abz")
