import numpy as np
import pytest

from dist_llm.config import Config, ModelConfig
from dist_llm.inference.context import Context
from dist_llm.inference.generation import generate, sample_generators
from dist_llm.inference.language_model import LanguageModel
from dist_llm.inference.sampler import Sampler
from dist_llm.inference.writing import Writer, write
from dist_llm.model.llama import Llama
from dist_llm.text import train_tokenizer

BYTE = train_tokenizer("byte", [], 0)


def written(text: str, stop: str) -> tuple[str, list[str], bool]:
    """What is shown of a text of single bytes: in all, piece by piece; and whether the stop text ended it."""
    writer = Writer(BYTE, stop)
    pieces = [writer.push(int(token)) for token in BYTE.encode(text)]
    return "".join([*pieces, writer.flush()]), pieces, writer.ended


@pytest.mark.parametrize(
    ("text", "stop", "shown"),
    [
        ("one two three", "two", "one "),
        ("one two three", "four", "one two three"),
        ("one two thr", "three", "one two thr"),  # held back, and shown at the end
        ("aab", "ab", "a"),
        ("aaab", "aab", "a"),
        ("xx", "x", ""),
        ("eine 😀 und 😀!", "😀!", "eine 😀 und "),
        ("text", "", "text"),
    ],
)
def test_a_text_ends_before_the_stop_text(text, stop, shown):
    got, pieces, ended = written(text, stop)
    assert got == shown
    assert ended == (shown != text)
    before = 0  # nothing was ever shown of what is not in the end
    for piece in pieces:
        assert shown[before:].startswith(piece)
        before += len(piece)


def test_only_what_may_be_the_stop_text_is_held_back():
    assert written("one two", "two")[1] == ["o", "n", "e", " ", "", "", ""]
    assert written("tatar", "tart")[1] == ["", "", "ta", "", ""]


def test_a_stop_text_within_one_token():
    tokenizer = train_tokenizer("bpe", ["hello hello hello hello\n" * 50], 270)
    writer = Writer(tokenizer, "l")
    ids = tokenizer.encode("hello hello")
    assert len(ids) < 6
    assert "".join(writer.push(int(i)) for i in ids) == "he"
    assert writer.ended


def test_the_end_of_the_text_shows_what_was_held_back():
    writer = Writer(BYTE, "abc")
    assert [writer.push(i) for i in (*BYTE.encode("xab").tolist(), BYTE.eot_id, 99)] == ["x", "", "", "ab", ""]
    assert writer.ended
    assert writer.flush() == ""


@pytest.fixture(scope="module")
def language_model() -> LanguageModel:
    config = ModelConfig(dim=16, n_layers=2, n_heads=2, ffn_dim=24, max_seq_len=12, init_std=0.5)
    model = Llama(config, BYTE.vocab_size)
    model.params.initialize(np.random.default_rng(0))
    return LanguageModel(model, BYTE, Config())


@pytest.mark.parametrize("temperature", [0, 1])
def test_each_sample_is_what_it_would_be_alone(language_model, temperature):
    """Beyond the context too, where all slide at once."""
    model, sampler = language_model.model, Sampler(temperature)
    prompt = BYTE.encode("abc")
    together = ["".join(texts) for texts in zip(*samples(language_model, 3, sampler), strict=True)]
    for rng, text in zip(sample_generators(7, 3), together, strict=True):
        writer = Writer(BYTE)
        alone = [writer.push(token) for token in generate(model, BYTE, prompt, 30, sampler, rng)]
        assert text == "".join([*alone, writer.flush()])
    assert len(set(together)) == (3 if temperature else 1)
    assert together[0] == "".join(piece for (piece,) in samples(language_model, 1, sampler))


def samples(language_model: LanguageModel, n: int, sampler: Sampler) -> list[list[str]]:
    context = language_model.read("abc", n)
    return list(write(context, BYTE, 30, sampler, sample_generators(7, n)))


def test_one_ends_and_the_others_go_on():
    """A stand-in for a model, whose texts are given."""

    class Given(Context):
        def __init__(self, texts: list[str]) -> None:
            self.ids = np.array([BYTE.encode(text) for text in texts])
            self.at = 0

        def append(self, tokens: np.ndarray) -> None:
            self.at += 1

        def logits(self) -> np.ndarray:
            return np.eye(BYTE.vocab_size)[self.ids[:, self.at]]

    pieces = list(write(Given(["ab.cd", "abcd."]), BYTE, 5, Sampler(0), sample_generators(1, 2), "."))
    assert pieces == [["a", "a"], ["b", "b"], ["", "c"], ["", "d"], ["", ""]]
    pieces = list(write(Given(["ab.cd", "a.cde"]), BYTE, 5, Sampler(0), sample_generators(1, 2), "."))
    assert pieces == [["a", "a"], ["b", ""], ["", ""]]


def test_the_text_of_the_python_interface(language_model):
    whole = language_model.generate("abc", max_tokens=30, seed=3)
    assert len(whole) > 20
    tokens = list(language_model.sample("abc", 30, Sampler(0.8, 0, 0.95), 3))
    assert whole == "abc" + BYTE.decode(tokens)
    stop = whole[12:14]
    assert language_model.generate("abc", max_tokens=30, seed=3, stop=stop) == "abc" + whole[3:].partition(stop)[0]
