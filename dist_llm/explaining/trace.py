"""What a model does with a text, token by token: a forward pass that keeps what others forget, and a backward pass.

In shapes n is the number of tokens, L of layers and k of the tokens that are named as likely; the other letters are
those of `dist_llm.model`.
"""

from dataclasses import dataclass

import numpy as np

from dist_llm.errors import UserError
from dist_llm.inference.language_model import LanguageModel
from dist_llm.model.llama import Llama, frequencies_of

LIKELY = 8  # tokens that are named of those that may come next
GROUPS = {"attention": "self_attn", "feed-forward": "mlp", "norms": "layernorm"}  # of a layer's tensors, by their names


@dataclass(frozen=True)
class Trace:
    """What a model did with a text.

    Attributes
    ----------
    tokens : ndarray of int, shape (n,)
        Those of the text, behind one that texts begin after, where there is such a token.
    bits : ndarray of float64, shape (n,)
        Surprise at each token, -log2 of the probability it was given; NaN at the first, which was not predicted.
    ranks : ndarray of int, shape (n,)
        Its place among all tokens that could have come, 1 for the likeliest; 0 for the first.
    likely : ndarray of int, shape (n, k)
        The likeliest tokens to follow each token, in their order.
    probabilities : ndarray of float64, shape (n, k)
        Theirs.
    attention : ndarray of shape (L, H, n, n)
        Weight of each key (columns) for each query (rows).
    embedding : ndarray of shape (n, D)
        What the residual stream begins with.
    contributions : ndarray of shape (L, 2, n, D)
        What each layer adds to it: its attention, then its feed-forward.
    residual : ndarray of shape (n, D)
        The stream behind the last layer, before the last norm.
    layer_gradients : ndarray of float64, shape (L, 3)
        Euclidean norm of the gradient of the mean loss, in nats, with respect to the tensors of each of GROUPS.
    other_gradients : dict of str to float
        The same for each tensor that is in no layer, by its name.
    frequencies : ndarray of float64, shape (Dh / 2,)
        Angle by which each pair of a head is turned from a position to the next.
    """

    tokens: np.ndarray
    bits: np.ndarray
    ranks: np.ndarray
    likely: np.ndarray
    probabilities: np.ndarray
    attention: np.ndarray
    embedding: np.ndarray
    contributions: np.ndarray
    residual: np.ndarray
    layer_gradients: np.ndarray
    other_gradients: dict[str, float]
    frequencies: np.ndarray


def trace(lm: LanguageModel, text: str) -> Trace:
    """Let a model read a text, and look on. The gradients in its buffer become those of this text.

    Raises
    ------
    UserError
        The text is empty, has nothing to predict, is longer than the context, or has a character that the tokenizer
        does not know.
    """
    if not text:
        raise UserError("the text is empty: give it at least a word")
    tokens, context = lm.scored_tokens(text), lm.model.config.max_seq_len
    if len(tokens) < 2:
        raise UserError("the text has nothing to predict: give it more than a character")
    if len(tokens) > context:
        with_first = ", with the one before its first" if tokens[0] in lm.tokenizer.special.values() else ""
        raise UserError(f"the text has {len(tokens):,} tokens{with_first}, and the context {context:,}: shorten it")
    embedding, contributions, attention, residual = _forward(lm.model, tokens)
    log_p = _log_probabilities(lm.model, residual)
    found = -log_p[np.arange(len(tokens) - 1), tokens[1:]]
    # An embedding may have more rows than the tokenizer has words; those rows mean nothing.
    likely = _largest(log_p[:, : lm.tokenizer.vocab_size], LIKELY)
    layer_gradients, other_gradients = _gradient_norms(lm.model, tokens)
    return Trace(
        tokens=tokens,
        bits=np.concatenate([[np.nan], found / np.log(2)]),
        ranks=np.concatenate([[0], 1 + (log_p[:-1] > -found[:, None]).sum(axis=-1)]),
        likely=likely,
        probabilities=np.exp(np.take_along_axis(log_p, likely, axis=-1)),
        attention=attention,
        embedding=embedding,
        contributions=contributions,
        residual=residual,
        layer_gradients=layer_gradients,
        other_gradients=other_gradients,
        frequencies=frequencies_of(lm.model.config),
    )


def _forward(model: Llama, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Do what `Llama.forward` does, up to the last norm, and return embedding, contributions, attention, residual."""
    x, _ = model.embed_tokens.forward(tokens[None])  # (1, n, D)
    embedding, contributions, weights = x[0], [], []
    for layer in model.layers:
        y, _ = layer.input_layernorm.forward(x)
        weights.append(layer.self_attn.weights(y)[0])
        attention, _ = layer.self_attn.forward(y)
        x = x + attention
        z, _ = layer.post_attention_layernorm.forward(x)
        feed_forward, _ = layer.mlp.forward(z)
        x = x + feed_forward
        contributions.append(np.concatenate([attention, feed_forward]))
    return embedding, np.stack(contributions), np.stack(weights), x[0]


def _log_probabilities(model: Llama, residual: np.ndarray) -> np.ndarray:
    """Return the logarithm of the probability of each next token, from the residual stream (n, D): float64 (n, V)."""
    h, _ = model.norm.forward(residual)
    logits = (h @ model.loss_head.weight.data.T).astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logits


def _largest(x: np.ndarray, k: int) -> np.ndarray:
    """Return where the k largest numbers of each row are, the largest first."""
    k = min(k, x.shape[-1])
    places = np.argpartition(-x, k - 1, axis=-1)[:, :k]
    order = np.argsort(-np.take_along_axis(x, places, axis=-1), axis=-1)
    return np.take_along_axis(places, order, axis=-1)


def _gradient_norms(model: Llama, tokens: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Return the norms of the gradient of the mean loss: of each layer's groups of tensors, and of the others."""
    model.params.grad[...] = 0
    _, cache = model.loss(tokens[None, :-1], tokens[None, 1:])
    model.loss_backward(1 / (len(tokens) - 1), cache)
    squares = {param.name: float(np.vdot(param.grad, param.grad)) for param in model.params}

    def norm(*parts: str) -> float:
        """Of all tensors together whose names have these parts."""
        return sum(square for name, square in squares.items() if all(part in name for part in parts)) ** 0.5

    of_layers = [[norm(f".layers.{i}.", part) for part in GROUPS.values()] for i in range(len(model.layers))]
    return np.array(of_layers), {name: norm(name) for name in squares if ".layers." not in name}
