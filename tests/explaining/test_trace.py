"""What is looked at, against the model itself and against plain versions."""

import numpy as np
import pytest

from dist_llm.errors import UserError
from dist_llm.explaining.trace import GROUPS, LIKELY, Trace, trace
from dist_llm.inference.language_model import LanguageModel
from dist_llm.text import train_tokenizer
from tests.explaining import BYTE, language_model
from tests.oracles.plain import plain_rotary_emb

TEXT = "The list is sorted."
SHAPES = [{}, {"n_kv_heads": 2}, {"n_kv_heads": 1, "tie_embeddings": False, "vocab_size": 300}]


@pytest.fixture(params=SHAPES, ids=["usual", "grouped", "untied"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return language_model(dtype=np.float64, **request.param)


@pytest.fixture
def traced(lm: LanguageModel) -> Trace:
    return trace(lm, TEXT)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_tokens_are_those_of_the_text_behind_one_that_texts_begin_after(traced):
    assert traced.tokens.tolist() == [256, *TEXT.encode()]


def test_attention_is_a_softmax_over_what_came_before(lm, traced):
    n, config = len(traced.tokens), lm.model.config
    assert traced.attention.shape == (config.n_layers, config.n_heads, n, n)
    np.testing.assert_allclose(traced.attention.sum(axis=-1), 1, rtol=1e-12)
    assert (traced.attention[..., np.triu(np.ones((n, n), bool), k=1)] == 0).all()
    stream = traced.embedding
    for layer, weights, added in zip(lm.model.layers, traced.attention, traced.contributions, strict=True):
        x, _ = layer.input_layernorm.forward(stream)
        parts = {name: lm.model.params[_name(layer, name)].data for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
        q, k, v = (
            (x @ parts[name].T).reshape(n, -1, layer.self_attn.head_dim).swapaxes(0, 1)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        q, k = (plain_rotary_emb(part, config.rope_theta) for part in (q, k))
        k, v = (part.repeat(len(q) // len(part), axis=0) for part in (k, v))
        scores = q @ k.swapaxes(1, 2) / layer.self_attn.head_dim**0.5
        expected = softmax(np.where(np.tri(n, dtype=bool), scores, -np.inf))
        np.testing.assert_allclose(weights, expected, rtol=1e-9, atol=1e-12)
        # ... and the values, so weighed, are what attention adds.
        o = (weights @ v).swapaxes(0, 1).reshape(n, -1) @ parts["o_proj"].T
        np.testing.assert_allclose(o, added[0], rtol=1e-9, atol=1e-12)
        stream = stream + added.sum(axis=0)


def _name(layer, part):
    return layer.input_layernorm.gain.name.replace("input_layernorm", f"self_attn.{part}")


def test_surprise_is_the_loss_in_bits(lm, traced):
    assert np.isnan(traced.bits[0])
    score = lm.score(TEXT)
    assert score.n_tokens == len(traced.bits) - 1
    assert traced.bits[1:].mean() * np.log(2) == pytest.approx(score.loss, rel=1e-12)
    p = softmax(lm.model.logits(traced.tokens[None])[0])
    for t, token in enumerate(traced.tokens[1:], 1):
        assert traced.bits[t] == pytest.approx(-np.log2(p[t - 1, token]))
        assert traced.ranks[t] == 1 + (p[t - 1] > p[t - 1, token]).sum()


def test_the_likeliest_come_first_and_are_words_of_the_tokenizer(lm, traced):
    p = softmax(lm.model.logits(traced.tokens[None])[0])
    assert traced.likely.shape == traced.probabilities.shape == (len(traced.tokens), LIKELY)
    np.testing.assert_array_equal(traced.likely, np.argsort(-p[:, :257], axis=-1)[:, :LIKELY])
    np.testing.assert_allclose(traced.probabilities, np.take_along_axis(p, traced.likely, axis=-1))


def test_a_vocabulary_may_be_smaller_than_what_is_named():
    traced = trace(language_model(train_tokenizer("char", ["ab"], 0)), "abba")
    assert traced.likely.shape[1] == 2 < LIKELY
    np.testing.assert_allclose(traced.probabilities.sum(axis=-1), 1, rtol=1e-5)


def test_contributions_add_up_to_the_residual_stream_of_the_model(lm, traced):
    np.testing.assert_allclose(
        traced.embedding + traced.contributions.sum(axis=(0, 1)), traced.residual, rtol=1e-12, atol=1e-12
    )
    h, _ = lm.model.forward(traced.tokens[None])
    np.testing.assert_array_equal(lm.model.norm.forward(traced.residual)[0], h[0])


def test_in_single_precision_they_do_to_rounding():
    traced = trace(language_model(), TEXT)
    error = traced.embedding + traced.contributions.sum(axis=(0, 1)) - traced.residual
    assert np.abs(error).max() < 1e-6 * np.abs(traced.residual).max()


def test_gradients_are_those_of_the_mean_loss(lm, traced):
    model = lm.model
    model.params.grad[...] = 0
    _, cache = model.loss(traced.tokens[None, :-1], traced.tokens[None, 1:])
    model.loss_backward(1 / (len(traced.tokens) - 1), cache)
    for layer, norms in zip(model.layers, traced.layer_gradients, strict=True):
        attention = layer.self_attn.qkv_proj, layer.self_attn.o_proj
        feed_forward = layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj
        gains = layer.input_layernorm.gain.grad, layer.post_attention_layernorm.gain.grad
        groups = [linear.weight.grad for linear in attention], [linear.weight.grad for linear in feed_forward], gains
        expected = [np.sqrt(sum((grad**2).sum() for grad in group)) for group in groups]
        np.testing.assert_allclose(norms, expected)
    assert traced.layer_gradients.shape[1] == len(GROUPS)
    names = ["model.embed_tokens.weight", "model.norm.weight", *["lm_head.weight"] * (not model.config.tie_embeddings)]
    assert list(traced.other_gradients) == names
    for name in names:
        assert traced.other_gradients[name] == pytest.approx(np.linalg.norm(model.params[name].grad))


def test_a_second_look_sees_the_same(lm, traced):
    again = trace(lm, TEXT)
    np.testing.assert_array_equal(again.layer_gradients, traced.layer_gradients)
    np.testing.assert_array_equal(again.attention, traced.attention)


def test_frequencies_turn_what_attention_turns(lm, traced):
    turned = np.exp(1j * np.outer(np.arange(64), traced.frequencies))
    np.testing.assert_allclose(turned, lm.model.freqs_cis, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text is empty: give it at least a word"),
        (64 * "a", "the text has 65 tokens, with the one before its first, and the context 64: shorten it"),
    ],
)
def test_what_cannot_be_looked_at_is_told(text, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        trace(language_model(), text)
    assert len(trace(language_model(), 63 * "a").tokens) == 64


def test_without_a_token_that_texts_begin_after_the_first_is_that_of_the_text(monkeypatch):
    monkeypatch.setattr(BYTE, "end_of_text", None)
    lm = language_model()
    traced = trace(lm, 64 * "a")
    assert traced.tokens.tolist() == 64 * [97]
    assert traced.bits[1:].mean() * np.log(2) == pytest.approx(lm.score(64 * "a").loss, rel=1e-6)
    with pytest.raises(UserError, match="the text has nothing to predict"):
        trace(lm, "a")
    with pytest.raises(UserError, match=r"^the text has 65 tokens, and the context 64: shorten it$"):
        trace(lm, 65 * "a")
