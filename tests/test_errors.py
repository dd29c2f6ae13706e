import argparse

import pytest

from dist_llm.command_line import whole_number
from dist_llm.config import Config
from dist_llm.errors import RunError, UserError
from dist_llm.settings import Settings
from dist_llm.training.begin import Fresh


@pytest.mark.parametrize("error", [UserError, RunError])
def test_a_message_is_one_line_whatever_is_in_the_names_it_tells(error):
    assert str(error("no file a\nb\x1b[2J\ud800\u202e é")) == "no file a b\ufffd[2J\ufffd\ufffd é"
    message = str(error("key " + "x" * 100_000 + " is not known"))
    assert len(message) < 2100
    assert message.startswith("key xxx")
    assert message.endswith("xxx is not known")


@pytest.mark.parametrize("text", ["²", "1.5", "-1", "", "x"])
def test_what_looks_like_a_whole_number_but_is_none(text):
    with pytest.raises(argparse.ArgumentTypeError, match="takes a whole number from 0 on"):
        whole_number(0)(text)
    assert whole_number(0)("12") == 12


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"train": {"batch_size": 10**12}},
            "256,000,000,000,000 tokens in a step, above 67,108,864: lower one of them",
        ),
        (
            {"model": {"n_layers": 10**6, "dim": 2, "n_heads": 1, "ffn_dim": 1}},
            "1,000,000 layers, however small, take 12",
        ),
    ],
)
def test_declared_sizes_are_told_before_they_take_memory(overrides, message):
    with pytest.raises(UserError, match=message):
        Fresh.plan(Settings((), overrides))


def test_a_zero_character_is_in_no_name():
    with pytest.raises(UserError, match=r"data\.path holds a zero character"):
        Config().replace({"data": {"path": "a\0b"}})
