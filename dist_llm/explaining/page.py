"""A trace as one page of HTML that needs nothing else: no network, style, script and numbers inside."""

import base64
import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader

from dist_llm.explaining.trace import GROUPS, Trace
from dist_llm.explaining.visible import SIGN, spoken, visible
from dist_llm.inference.language_model import LanguageModel

OTHERS = {"model.embed_tokens.weight": "embedding", "model.norm.weight": "last norm", "lm_head.weight": "output"}


@dataclass(frozen=True)
class Shown:
    """A token as the page shows it.

    Attributes
    ----------
    text : str
    label : str
        What is said to those who listen.
    bits : float or None
        Surprise; None for the first token.
    rank : int
    expected : str
        The likeliest token in its place; empty for the first.
    chance : float
        Its probability.
    """

    text: str
    label: str
    bits: float | None
    rank: int
    expected: str = ""
    chance: float = 0.0


def page(trace: Trace, lm: LanguageModel, source: str) -> str:
    """Return the page of a text that a model, named by its `source`, has read."""
    environment = Environment(
        loader=PackageLoader("dist_llm", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters["parts"] = SIGN.split
    shown = _tokens(trace, lm)
    bits = trace.bits[1:]
    n_bytes = sum(len(lm.tokenizer.token_bytes[token]) for token in trace.tokens[1:])
    largest = max(shown[1:], key=lambda token: token.bits or 0)
    lengths = _lengths(trace)
    facts = {
        "source": source,
        "after": f", after step {lm.state['step']:,}" if "step" in lm.state else "",
        "model": repr(lm.model),
        "tokens": shown,
        "mean_bits": bits.mean(),
        "bits_per_byte": bits.sum() / max(1, n_bytes),
        "blind": math.log2(lm.tokenizer.vocab_size),
        "vocabulary": lm.tokenizer.vocab_size,
        "largest": largest,
        "n_layers": len(trace.attention),
        "n_heads": trace.attention.shape[1],
        "mean_lengths": lengths.mean(axis=0).tolist(),
        "longest": float(lengths.max()),
        "groups": list(GROUPS),
        "gradients": trace.layer_gradients.tolist(),
        "other_gradients": [(OTHERS[name], norm) for name, norm in trace.other_gradients.items()],
        "steepest": float(max(trace.layer_gradients.max(), *trace.other_gradients.values())),
        "turns": (trace.frequencies / (2 * np.pi)).tolist(),
        "data": _data(trace, lm, lengths),
    }
    return environment.get_template("explaining/page.html.j2").render(facts) + "\n"


def _tokens(trace: Trace, lm: LanguageModel) -> list[Shown]:
    def text(token: int) -> str:
        return visible(lm.tokenizer.decode_bytes([token]))

    first, *others = map(text, trace.tokens)
    shown = [Shown(first, spoken(first), None, 0)]
    for t, token in enumerate(others, 1):
        bits, expected = float(trace.bits[t]), text(trace.likely[t - 1, 0])
        label = f"{spoken(token)}, {bits:.1f} bits"
        shown.append(Shown(token, label, bits, int(trace.ranks[t]), expected, float(trace.probabilities[t - 1, 0])))
    return shown


def _lengths(trace: Trace) -> np.ndarray:
    """Return the length of all that is added up in the residual stream, (n, 1 + 2 L), in its order."""
    added = np.concatenate([trace.embedding[None], trace.contributions.reshape(-1, *trace.embedding.shape)])
    return np.linalg.norm(added, axis=-1).T


def _data(trace: Trace, lm: LanguageModel, lengths: np.ndarray) -> dict[str, Any]:
    """Return what the script of the page reads, to be written as JSON."""
    ids, places = np.unique(np.concatenate([trace.tokens, trace.likely.ravel()]), return_inverse=True)
    n = len(trace.tokens)
    return {
        "heads": trace.attention.shape[1],
        "pieces": [visible(lm.tokenizer.decode_bytes([token])) for token in ids],
        "tokens": places[:n].tolist(),
        "likely": places[n:].reshape(n, -1).tolist(),
        "probabilities": _rounded(trace.probabilities),
        "bits": [None, *_rounded(trace.bits[1:])],
        "ranks": trace.ranks.tolist(),
        "lengths": _rounded(lengths),
        "stream": _rounded(np.linalg.norm(trace.residual, axis=-1)),
        "attention": packed(trace.attention),
    }


def packed(attention: np.ndarray) -> str:
    """Return the weights that are not 0 by causality, as a byte each: base64 of zlib, row after row of each head.

    A byte is 255 times the square root of a weight, so that small ones do not become 0; the maps show it as it is.
    """
    rows, columns = np.tril_indices(attention.shape[-1])
    quantized = np.rint(255 * np.sqrt(attention[:, :, rows, columns])).astype(np.uint8)
    return base64.b64encode(zlib.compress(quantized.tobytes())).decode()


def _rounded(numbers: np.ndarray) -> Any:
    """Return numbers with four significant digits, as lists."""
    return np.vectorize(lambda x: float(f"{x:.4g}"))(numbers).tolist()
