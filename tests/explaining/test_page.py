import base64
import json
import re
import zlib

import numpy as np
import pytest

from dist_llm.config import ModelConfig
from dist_llm.explaining.page import packed, page
from dist_llm.explaining.trace import trace
from tests.explaining import language_model

TEXT = "<script>alert('x')</script> & \u202e\n\tand \xff so on"


@pytest.fixture(scope="module")
def html() -> str:
    lm = language_model()
    return page(trace(lm, TEXT), lm, "runs/<run>")


def data_of(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


def test_what_is_in_a_text_stays_text(html):
    assert html.count("<script") == html.count("</script>") == 2
    assert "runs/&lt;run&gt;" in html
    assert "\u202e" not in html
    shown = data_of(html)
    assert "".join(shown["pieces"][i] for i in shown["tokens"]) == (
        "<|endoftext|><script>alert('x')</script>␣&␣\\xe2\\x80\\xae⏎⇥and␣\\xc3\\xbf␣so␣on"
    )


def test_it_says_what_the_trace_says(html):
    lm = language_model()
    traced, shown = trace(lm, TEXT), data_of(html)
    n = len(traced.tokens)
    np.testing.assert_allclose(shown["bits"][1:], traced.bits[1:], rtol=1e-3)
    np.testing.assert_allclose(shown["probabilities"], traced.probabilities, rtol=1e-3)
    assert shown["ranks"] == traced.ranks.tolist()
    lengths = np.linalg.norm([traced.embedding, *traced.contributions.reshape(-1, n, 24)], axis=-1).T
    np.testing.assert_allclose(shown["lengths"], lengths, rtol=1e-3)
    np.testing.assert_allclose(shown["stream"], np.linalg.norm(traced.residual, axis=-1), rtol=1e-3)
    for number in (*traced.layer_gradients.ravel(), *traced.other_gradients.values()):
        assert f">{number:.3g}</td>" in html.replace("</span>", ">")
    assert f"{lm.score(TEXT).bits_per_byte:.2f}</dd>" in html


def test_it_asks_for_nothing(html):
    assert not re.search(r"https?:|src=|@import|url\(|<link", html)
    assert "default-src 'none'" in html


def test_attention_is_packed_to_a_byte_of_its_root():
    attention = trace(language_model(), TEXT).attention
    L, H, n, _ = attention.shape
    numbers = np.frombuffer(zlib.decompress(base64.b64decode(packed(attention))), np.uint8).reshape(L, H, -1)
    unpacked = np.zeros_like(attention)
    for t in range(n):
        unpacked[..., t, : t + 1] = (numbers[..., t * (t + 1) // 2 : (t + 1) * (t + 2) // 2] / 255) ** 2
    assert np.abs(unpacked - attention).max() < 0.004
    assert np.abs(np.sqrt(unpacked) - np.sqrt(attention)).max() < 0.002


def test_a_whole_context_of_the_default_model_is_a_small_page():
    shape = ModelConfig()
    sizes = {name: getattr(shape, name) for name in ("dim", "n_layers", "n_heads", "ffn_dim", "max_seq_len")}
    lm = language_model(**sizes)
    text = "".join(map(chr, np.random.default_rng(0).integers(32, 127, shape.max_seq_len - 1)))
    assert len(page(trace(lm, text), lm, "run").encode()) < 1_500_000
